"""Formats of files of pretrained DQNs, one file each (`convert.foreign.FORMATS`)."""

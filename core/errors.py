"""The one exception a user is meant to read."""


class Refusal(ValueError):
    """Bad input, refused before any harm is done.

    The message is one line that names the offending value and what would be accepted. The command
    line prints it and exits with code 2; a library caller catches it as a ValueError.
    """

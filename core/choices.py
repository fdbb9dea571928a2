"""Closed sets of words that options take. Never imports torch: command lines need them before anything is computed."""

from typing import Literal

Device = Literal["auto", "cpu", "cuda"]
"""Where networks run. auto: on a GPU if there is one."""
Precision = Literal["fp32", "bf16"]
"""Precision of updates."""
Surrogate = Literal["atan", "sigmoid", "triangle", "rectangle"]
SURROGATES: tuple[Surrogate, ...] = ("atan", "sigmoid", "triangle", "rectangle")
"""Families of surrogate gradients (core/neurons/surrogates.py)."""
Firing = Literal["at-once", "signed", "afterwards"]
FIRINGS: tuple[Firing, ...] = ("at-once", "signed", "afterwards")
"""When neurons of converted networks fire (`core.rate_coded.torch_engine.IFNeuron`)."""
ChargeReadout = Literal["robust", "current", "spikes"]
CHARGE_READOUTS: tuple[ChargeReadout, ...] = ("robust", "current", "spikes")
"""What Q-values of converted networks are read from.

robust: spike count plus residual membrane of the output neurons (Tan et al. 2021).
current: charge of output neurons that do not fire. The numbers are those of robust, without output spikes.
spikes: spike count alone.
"""
Granularity = Literal["channel", "layer"]
"""Whether each channel or each layer has a threshold. In fully connected layers a channel is a neuron."""
Loss = Literal["cross-entropy", "margin", "value"]
"""What an attack increases.

cross-entropy: of softmax Q against the clean greedy action (Huang et al. 2017).
margin: the best other Q-value minus that action's (Carlini & Wagner 2017, without their constant).
value: minus the largest Q-value.
"""
Scope = Literal["whole-stack", "newest-frame"]
SCOPES: tuple[Scope, ...] = ("whole-stack", "newest-frame")
"""What an attack may change at a decision.

whole-stack: all that the agent sees, anew at every decision. This is the literature's default, and more than an
attacker in front of the screen can do.
newest-frame: the newest frame only. What was added to the others stays in the stack as they age.
"""
Pixels = Literal["unit", "bytes"]
"""What an imported network was given for a pixel. unit: numbers from 0 to 1. bytes: grey levels from 0 to 255."""

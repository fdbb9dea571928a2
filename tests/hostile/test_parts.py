"""No number of a registered part ends badly: each is accepted, or refused in one line.

Cases are made from the registered option dataclasses. A new part is covered without a change here.
"""

import dataclasses

import pytest

from adversarial.attack import ATTACKS
from adversarial.threat import Threat
from convert.method import METHODS
from core.dsqn import Spiking
from core.errors import Refusal
from core.neurons.base import NEURONS
from core.normalisations import NORMALISATIONS
from core.options import parse_settings
from core.ranges import Real, ranges
from core.rate_coded.network import RateCoding
from core.rate_coded.torch_engine import IFNeuron
from core.readouts import READOUTS
from play.protocols import PROTOCOLS, Dynamics
from tests.hostile.test_values import TEXTS, number_fields, outside
from train_direct.recipe import PPO_RECIPES, RECIPES

CLASSES = {
    options for each in (NEURONS, NORMALISATIONS, READOUTS, METHODS, ATTACKS) for options in each.values()
}
VALUES = {type(value): value for each in (RECIPES, PPO_RECIPES, PROTOCOLS) for value in each.values()}
OPTIONS: list[type] = sorted(
    {*CLASSES, *VALUES, Dynamics, IFNeuron, RateCoding, Spiking, Threat}, key=lambda each: each.__qualname__
)
FIELDS = [
    (options, name)
    for options in OPTIONS
    for name in number_fields(options)
    if name != "frame_caps"  # of protocols; each becomes the dynamics of a game
]


def made(options: type, **changes: object) -> object:
    """An instance with other values."""
    if options in VALUES:
        return dataclasses.replace(VALUES[options], **changes)
    needed = {
        Threat: {"attack": None, "epsilon": 0.1},
        Dynamics: {"sticky_action_probability": 0.0, "max_episode_frames": 100},
    }.get(options, {})
    return options(**{**needed, **changes})


def test_the_registries_have_the_options_that_are_known() -> None:
    found = {(options.__name__, name) for options, name in FIELDS}
    known = {("LIF", "tau"), ("PGD", "restarts"), ("Tan2021", "percentile"), ("Recipe", "batch_size")}
    assert known <= found


@pytest.mark.parametrize(("options", "name"), FIELDS, ids=lambda each: getattr(each, "__name__", each))
def test_every_number_of_a_part_declares_its_range_and_refuses_what_is_outside(
    options: type, name: str
) -> None:
    assert name in ranges(options), f"{options.__name__}: declare what {name} accepts (core/ranges.py)"
    accepted = ranges(options)[name]
    made(options)
    bad: list[object] = [float("nan"), float("inf"), 10**400, "1", True]
    bad += [
        float(each) if isinstance(accepted.range, Real) or "." in each else int(each)
        for each in outside(accepted)
    ]
    for value in bad:
        with pytest.raises(Refusal, match=name):
            made(options, **{name: value})
    for text in TEXTS:
        with pytest.raises(Refusal, match=name):
            made(options, **parse_settings([f"{name}={text}"], options, options.__name__))

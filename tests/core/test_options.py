"""Options from command-line words and from JSON: every type, and one-line refusals of everything else."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from core.errors import Refusal
from core.neurons.base import NEURONS, Neuron
from core.neurons.integrate_and_fire import IF
from core.neurons.lif import LIF
from core.options import checked, choose, from_config, parse_settings, to_config
from core.readouts import READOUTS, Rate


@dataclass(frozen=True)
class Inner:
    size: int = 3


@dataclass(frozen=True)
class Options:
    count: int
    share: float = 0.5
    on: bool = False
    word: str = "a"
    kind: Literal["adam", "sgd"] = "adam"
    limit: float | None = None
    either: int | Literal["auto"] = "auto"
    inner: Inner = field(default_factory=Inner)
    derived: int = field(default=0, init=False)


def parsed(*words: str) -> dict[str, Any]:
    return parse_settings(words, Options, "recipe r")


# Words -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("count=7", 7),
        ("count=-1", -1),
        ("share=1e-3", 1e-3),
        ("share=1/4", 0.25),
        ("share=2", 2.0),
        ("on=true", True),
        ("on=False", False),
        ("word=", ""),
        ("word=a=b", "a=b"),
        ("word=--extension", "--extension"),
        ("kind=sgd", "sgd"),
        ("limit=none", None),
        ("limit=2.5", 2.5),
        ("either=auto", "auto"),
        ("either=4", 4),
        ("inner.size=5", 5),
    ],
)
def test_a_word_becomes_a_value_of_its_fields_type(word: str, value: object) -> None:
    ((found_name, found),) = parsed(word).items()
    assert found_name == word.partition("=")[0]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("count=1.5", "count of recipe r is '1.5': accepted is an integer"),
        ("count=", "accepted is an integer"),
        ("count=1_000", "accepted is an integer"),
        ("count=٣", "accepted is an integer"),
        ("count=" + "9" * 1_000_000, "accepted is an integer"),
        ("share=nan", "accepted is a finite number"),
        ("share=inf", "accepted is a finite number"),
        ("share=1e999", "accepted is a finite number"),
        ("share=1/0", "accepted is a finite number"),
        ("share=1/" + "9" * 1_000_000, "accepted is a finite number"),
        ("share=none", "accepted is a finite number"),
        ("on=1", "accepted is True or False"),
        ("kind=adamw", "accepted is adam, sgd"),
        ("limit=never", "accepted is a finite number or none"),
        ("either=2.5", "accepted is an integer or auto"),
        ("inner=3", "accepted is Inner"),
        ("inner.sizes=3", r"inner of recipe r has no option 'sizes': did you mean 'size'\?"),
        ("count.size=3", "count has no parts"),
        ("cuont=3", r"recipe r has no option 'cuont': did you mean 'count'\? accepted are count, share"),
        ("derived=3", "has no option 'derived'"),
        ("__class__=3", "has no option '__class__'"),
        ("count", "'count': field=value is needed; as in count=VALUE"),
        ("=3", "'=3': field=value is needed"),
        ("", "'': field=value is needed"),
    ],
)
def test_a_word_that_is_no_setting_is_refused(word: str, message: str) -> None:
    with pytest.raises(Refusal, match=message):
        parsed(word)


def test_a_field_that_is_given_twice_is_refused() -> None:
    with pytest.raises(Refusal, match="count is given twice: 1 and '2'"):
        parsed("count=1", "count=2")


def test_a_command_line_chooses_an_entry_with_options() -> None:
    assert choose(NEURONS, ["lif", "tau=4", "threshold=1/2"]) == LIF(tau=4.0, threshold=0.5)
    assert choose(READOUTS, ["rate"]) == Rate()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no neuron given: accepted are"),
        (["liff"], "did you mean 'lif'"),
        (["if", "tau=2"], "neuron if has no option 'tau'"),
        (["lif", "tau=0.5"], "tau is 0.5: accepted is a number from 1 to"),
        (["lif", "reset=medium"], "accepted is hard, soft"),
    ],
)
def test_an_entry_that_cannot_be_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(Refusal, match=message):
        choose(NEURONS, words)


def test_an_entry_without_options_says_so() -> None:
    with pytest.raises(Refusal, match="'fast': field=value is needed; read-out rate has no options"):
        choose(READOUTS, ["rate", "fast"])
    with pytest.raises(Refusal, match="read-out rate has no option 'tau': accepted are none"):
        choose(READOUTS, ["rate", "tau=2"])


# JSON ------------------------------------------------------------------------------------------------


def test_values_of_the_right_types_are_accepted_and_integers_become_floats() -> None:
    given = {"count": 3, "share": 1, "on": True, "word": "b", "kind": "sgd", "limit": None, "either": "auto"}
    found = checked(Options, given, "recipe r")
    assert found == given
    assert type(found["share"]) is float


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "recipe r lacks 'count'"),
        ({"count": 3, "cout": 4}, r"has no option 'cout': did you mean 'count'\?"),
        ({"count": 3.0}, "count of recipe r is 3.0: accepted is an integer"),
        ({"count": True}, "count of recipe r is True"),
        ({"count": "3"}, "count of recipe r is '3'"),
        ({"count": None}, "count of recipe r is None"),
        ({"count": 3, "share": "0.5"}, "share of recipe r is '0.5'"),
        ({"count": 3, "share": math.nan}, "share of recipe r is nan"),
        ({"count": 3, "share": math.inf}, "share of recipe r is inf"),
        ({"count": 3, "share": 10**400}, "share of recipe r is 1000"),
        ({"count": 3, "share": False}, "share of recipe r is False"),
        ({"count": 3, "on": 1}, "on of recipe r is 1: accepted is True or False"),
        ({"count": 3, "word": 5}, "word of recipe r is 5: accepted is a word"),
        ({"count": 3, "kind": ["sgd"]}, "accepted is adam, sgd"),
        ({"count": 3, "limit": "none"}, "accepted is a finite number or none"),
        ({"count": 3, "limit": {}}, "accepted is a finite number or none"),
        ({"count": 3, "inner": 3}, "accepted is Inner"),
        ({"count": 3, "inner": {"sise": 3}}, "inner of recipe r has no option 'sise'"),
    ],
)
def test_values_of_wrong_types_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(Refusal, match=message):
        checked(Options, given, "recipe r")


@pytest.mark.parametrize(
    "neuron", [LIF(), LIF(tau=3.5, reset="soft"), IF(threshold=0.5, surrogate="sigmoid")]
)
def test_an_entry_comes_back_from_its_configuration(neuron: Neuron) -> None:
    config = to_config(NEURONS, neuron)
    assert config["name"] in ("lif", "if")
    assert from_config(NEURONS, config) == neuron


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "an object with a name and options is needed"),
        ("lif", "an object with a name and options is needed"),
        ({}, "an object with a name and options is needed"),
        ({"name": ["lif"]}, "an object with a name and options is needed"),
        ({"name": "lfi"}, "did you mean 'lif'"),
        ({"name": "lif", "tau": "2"}, "tau of neuron lif is '2'"),
        ({"name": "lif", "rate": 2}, "neuron lif has no option 'rate'"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(config: object, message: str) -> None:
    with pytest.raises(Refusal, match=message):
        from_config(NEURONS, config)


def test_an_entry_that_is_not_registered_has_no_configuration() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Mine(LIF): ...

    with pytest.raises(Refusal, match="neuron Mine is not registered"):
        to_config(NEURONS, Mine())

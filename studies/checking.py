"""Parse the command lines of a study's stages before anything starts, so that bad options are found at once."""

import importlib
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from typing import Any

import spikeq
from core.cli import parse
from core.errors import Refusal
from core.words import command_line, nearest
from studies.planning import Stage
from studies.reading import ATTACKS, CHOICES, Study


def require_accepted(study: Study, stages: Sequence[Stage]) -> None:
    """Refuse options of a study that its commands do not have or do not accept, and agents that nobody registered.

    Imports the modules of the commands, and torch with them.

    Raises:
        Refusal: the message names file, line and option.
    """
    first_of = {(stage.setting, stage.arguments[:2]): stage for stage in reversed(stages) if stage.setting}
    for stage in reversed(first_of.values()):
        _require_accepted(study, stage)
    _require_registered(study)


def _require_accepted(study: Study, stage: Stage) -> None:
    """Refuse options of one stage."""
    module, verb, *words = stage.arguments
    command = command_class(module, verb)
    program = command_line([module, verb])
    entry = _entry(study, stage)
    names = [each.name for each in fields(command)]
    # The study sets these itself: they are on the command line without being in the entry, or twice.
    own = {name for name in names if words.count(_option(name)) > (name in entry)}
    accepted = [name for name in names if name not in own]
    for name in entry:
        if name in own:
            study.source.refuse((*stage.setting, name), "is what the study sets itself: remove it")
        if name not in accepted:
            near = nearest(name, accepted)
            study.source.refuse(
                (*stage.setting, name), f"is no option of {program}: {near}options are {', '.join(accepted)}"
            )
    try:
        parse(program, command, words)
    except Refusal as refusal:
        study.source.refuse(stage.setting, f"is not accepted by {program}: {refusal}")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _entry(study: Study, stage: Stage) -> dict[str, Any]:
    """The options of a stage, as the study's file has them."""
    entry: Any = study.source.parsed()
    for key in stage.setting:
        entry = entry[key]
    if not isinstance(entry, dict):
        return {}
    choices = CHOICES if stage.setting[-1] in ATTACKS else ()
    return {name: value for name, value in entry.items() if name not in choices}


def command_class(module: str, verb: str) -> Any:
    """The class of a verb, which has its name."""
    return getattr(importlib.import_module(f"{module}.__main__"), verb.title().replace("-", ""))


def _require_registered(study: Study) -> None:
    """Refuse names of agents that neither SpikeQ nor an extension of the study registered."""
    for game, settings in study.games.items():
        for label, agent in settings.agents.items():
            if agent.kind == "registered":
                table = ("defaults",) if "agents" in settings.shared else ("games", game)
                study.source.naming((*table, "agents", label), partial(spikeq.AGENTS.get, agent.name))

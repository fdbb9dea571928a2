"""Read a study: from a TOML file to checked dataclasses. Never imports torch.

A study is given by the name of a built-in one or by the path of any file. Paths in a file start at its folder.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from core.errors import Refusal
from core.extensions import files_of, load_extension
from core.games import get_game
from core.places import home
from core.words import nearest
from studies.source import Options, Source, read_source, shown

BUILT_IN = Path(__file__).resolve().parent
"""The folder of the built-in studies."""
Checkpoint = Literal["best", "agent"]
TRAINING = re.compile(r"(dqn|dsqn|ppo|spiking-ppo)(-[a-z0-9-]+)?")
"""Names of trainings: dqn, dsqn, ppo, spiking-ppo, and variants of these such as dqn-large."""
CONVERSION = re.compile(r"convert(-[a-z0-9-]+)?")
"""Names of conversions, each of every DQN. convert-t8 makes the network snn-t8, and also quantised-t8 if that is
kept."""
COMMANDS = ("evaluate", "compare", "attack", "states", "probe")
"""Settings of a game that hold the options of one command. A command without an entry is not run."""
SETTINGS = ("train_seeds", "shipped", "agents", *COMMANDS)
"""Settings of a game, besides those of trainings and conversions."""
ATTACKS = ("attack", "states")
"""Commands whose tables may choose their victims."""
CHOICES = ("agents", "train_seeds")
"""Entries that choose them."""
AGENT_NAME = re.compile(r"[a-z0-9]+([_-][a-z0-9]+)*")


@dataclass(frozen=True)
class NamedAgent:
    """An agent that a study names."""

    kind: Literal["registered", "checkpoint", "run", "foreign"]
    """A registered agent, a checkpoint, a run folder of `train_direct`, or a file of another project."""
    name: str
    """Its registered name, or its path from the study's base."""
    options: Options
    """Options of the import of another project's file; empty for all others."""


@dataclass(frozen=True)
class Victims:
    """Which agents a command attacks; all if it says nothing."""

    agents: tuple[str, ...] | None = None
    """Names without training seeds, as in dqn or snn-t8."""
    train_seeds: tuple[int, ...] | None = None


@dataclass(frozen=True)
class GameSettings:
    """What a study does with one game."""

    train_seeds: tuple[int, ...]
    trainings: Mapping[str, Options]
    """By name, see TRAINING. Each is made with every seed."""
    agents: Mapping[str, NamedAgent]
    """Agents that exist already, by the label that they have in results."""
    conversions: Mapping[str, Options]
    """By name, see CONVERSION."""
    commands: Mapping[str, Options]
    """By name, see COMMANDS."""
    victims: Mapping[str, Victims]
    """By name, see ATTACKS."""
    shared: frozenset[str] = frozenset()
    """Names of the settings that stand in `defaults`, and not in the game's own table."""
    written: Mapping[str, str] = field(default_factory=dict)
    """Names of settings in the file, of those that it writes as one for several numbers of simulation steps."""


@dataclass(frozen=True)
class Study:
    """A study, as its file says."""

    name: str
    """The file's name without its ending."""
    source: Source
    """The file, for messages that name its lines."""
    base: Path
    """The folder in which its commands run, and where their paths start: the file's own. Of built-in studies it is the
    checkout, or the working directory if SpikeQ was installed."""
    folder: str
    """The folder of its results, a path from `base`."""
    extensions: tuple[str, ...]
    """Modules that its commands import. They have been imported."""
    evaluation_seed: int
    threads: int
    """Threads of each stage."""
    checkpoint: Checkpoint
    """Which weights of a training are converted and attacked: the best on validation episodes, or the last."""
    games: Mapping[str, GameSettings]

    @property
    def extension_files(self) -> tuple[Path, ...]:
        """The files of its extensions."""
        return tuple(file for name in self.extensions for file in files_of(name))

    def import_extensions(self) -> None:
        """Import its extensions, in a process other than the one that read it."""
        for name in self.extensions:
            load_extension(name, self.base)


def built_in_studies() -> tuple[str, ...]:
    """Names of the studies that come with SpikeQ."""
    return tuple(sorted(file.stem for file in BUILT_IN.glob("*.toml")))


def read_study(study: str | os.PathLike[str], out: str | os.PathLike[str] | None = None) -> Study:
    """Read a study and import its extensions.

    Args:
        study: name of a built-in study, or path of a TOML file.
        out: folder of the results. By default it is a folder of the study's name: beside the file, or in results/ for a
            built-in study.

    Raises:
        Refusal: there is no such study, or its file is not valid. The message names file and line.
    """
    file = _file_of(study)
    is_built_in = file.resolve().parent == BUILT_IN
    base = home().resolve() if is_built_in else file.parent.resolve()
    folder = base / "results" / file.stem if is_built_in else base / file.stem
    if out is not None:
        folder = Path.cwd() / out
    source = read_source(file)
    content = source.table(
        source.parsed(),
        (),
        ("train_seeds", "evaluation_seed", "threads", "checkpoint", "games"),
        ("extensions", "defaults"),
    )
    extensions = source.list_of(
        content.get("extensions", []), ("extensions",), str, 'modules, as in ["my_module"]'
    )
    for name in extensions:
        source.naming(("extensions",), partial(load_extension, name, base))
    train_seeds = source.seeds(content["train_seeds"], ("train_seeds",))
    defaults = source.table(content.get("defaults", {}), ("defaults",))
    games = _tables_of_games(source, content["games"], "defaults" in content)

    def at_base(path: str) -> str:
        return os.path.relpath(os.path.abspath(file.parent.resolve() / path), base)

    return Study(
        name=file.stem,
        source=source,
        base=base,
        folder=os.path.relpath(os.path.abspath(folder), base),
        extensions=extensions,
        evaluation_seed=source.whole(content["evaluation_seed"], ("evaluation_seed",), least=0),
        threads=source.whole(content["threads"], ("threads",), least=1),
        checkpoint=source.one_of(content["checkpoint"], ("checkpoint",), get_args(Checkpoint)),
        games={
            name: _game(source, name, settings, defaults, train_seeds, at_base)
            for name, settings in games.items()
        },
    )


def _tables_of_games(source: Source, value: object, has_defaults: bool) -> Mapping[str, object]:
    """What the file says of each game. A list of names stands for games that have the defaults and nothing else."""
    if isinstance(value, list):
        names = source.list_of(value, ("games",), str, 'names, as in ["minatar/breakout"]')
        if not has_defaults:
            source.refuse(("games",), "is a list of names: the table [defaults] says what is done with them")
        if len({*names}) < len(names):
            source.refuse(("games",), "names a game twice")
        value = {name: {} for name in names}
    games = source.table(value, ("games",))
    if not games:
        source.refuse(
            ("games",), 'is empty: a table for each game is needed, as in [games."minatar/breakout"]'
        )
    return games


def _file_of(study: str | os.PathLike[str]) -> Path:
    """The file behind a name or a path."""
    names = built_in_studies()
    if study in names:
        return BUILT_IN / f"{study}.toml"
    file = Path(study)
    if file.is_file():
        return file
    if file.suffix == ".toml" or file.name != str(study):
        raise Refusal(f"no study at {file}: accepted are the path of a TOML file, and {', '.join(names)}")
    raise Refusal(
        f"unknown study {str(study)!r}: {nearest(study, names)}studies are {', '.join(names)}; one of your own is "
        "given by the path of its file, as in my_study.toml"
    )


def _game(
    source: Source,
    name: str,
    content: object,
    defaults: Mapping[str, object],
    train_seeds: tuple[int, ...],
    at_base: Callable[[str], str],
) -> GameSettings:
    """The settings of one game.

    Args:
        source: the study's file.
        name: name of the game.
        content: what the file says of it.
        defaults: what the file says of every game. A setting of the game's own takes the place of the same one here.
        train_seeds: the study's seeds, if the game has none of its own.
        at_base: from a path in the file to a path from the study's base.
    """
    keys = ("games", name)
    source.naming(keys, lambda: get_game(name))
    own = source.table(content, keys)
    tables = {**defaults, **own}
    place = {key: keys if key in own else ("defaults",) for key in tables}
    if "shipped" in tables and "shipped" not in own:
        source.refuse(("defaults", "shipped"), "names agents of one game: write it below that game")
    for key in tables:
        if key not in SETTINGS and not TRAINING.fullmatch(key) and not CONVERSION.fullmatch(key):
            source.refuse(
                (*place[key], key),
                f"is unknown: {nearest(key, (*SETTINGS, 'dqn', 'dsqn', 'ppo', 'convert'))}settings are "
                f"{', '.join(SETTINGS)}, dqn, dsqn, ppo and spiking-ppo, convert, and variants of these as in dqn-NAME",
            )
    options = {
        key: source.options(value, (*place[key], key))
        for key, value in tables.items()
        if key not in ("train_seeds", "shipped", "agents")
    }
    options, written = _for_all_sim_steps(source, options, place)
    victims: dict[str, Victims] = {}
    for key in ATTACKS:
        victims[key], options[key] = _victims(source, options.get(key, {}), (*place.get(key, keys), key))
    agents = _shipped(source, name, tables.get("shipped", []), (*keys, "shipped"), at_base)
    named = (*place.get("agents", keys), "agents")
    for label, value in source.table(tables.get("agents", {}), named).items():
        if not AGENT_NAME.fullmatch(label) or label in agents:
            source.refuse(
                (*named, label),
                "is taken, or not made of small letters, digits, and '-' or '_' between them",
            )
        agents[label] = _agent(source, value, (*named, label), at_base)
    if "train_seeds" in tables:
        train_seeds = source.seeds(tables["train_seeds"], (*place["train_seeds"], "train_seeds"))
    return GameSettings(
        train_seeds,
        {key: value for key, value in options.items() if TRAINING.fullmatch(key)},
        agents,
        {key: value for key, value in options.items() if CONVERSION.fullmatch(key)},
        {key: options[key] for key in COMMANDS if key in tables},
        victims,
        frozenset(name for name in (*tables, *options) if written.get(name, name) not in own),
        written,
    )


def _for_all_sim_steps(
    source: Source, options: Mapping[str, Options], place: Mapping[str, tuple[str, ...]]
) -> tuple[dict[str, Options], dict[str, str]]:
    """Settings in which each training and conversion has one number of simulation steps.

    From convert-max = { sim_steps = [4, 8] } become convert-max-t4 and convert-max-t8.

    Returns:
        The settings, and the names in the file of those that were made from a list.
    """
    found: dict[str, Options] = {}
    written: dict[str, str] = {}
    for key, own in options.items():
        each = {key: own}
        several = own.get("sim_steps")
        if isinstance(several, list) and (TRAINING.fullmatch(key) or CONVERSION.fullmatch(key)):
            numbers = source.different(several, (*place[key], key, "sim_steps"), 1, "[4, 8]")
            each = {f"{key}-t{number}": {**own, "sim_steps": number} for number in numbers}
            written.update(dict.fromkeys(each, key))
        for name in each:
            if name in found or (name != key and name in options):
                source.refuse((*place[key], key), f"makes {name}, which is there already")
        found.update(each)
    return found, written


def _shipped(
    source: Source, game: str, paths: object, keys: tuple[str, ...], at_base: Callable[[str], str]
) -> dict[str, NamedAgent]:
    """The agents of a game that the file names by their paths alone, by label."""
    agents: dict[str, NamedAgent] = {}
    for path in source.list_of(paths, keys, str, 'paths, as in ["my-agents/a-dqn.safetensors"]'):
        label = "shipped-" + Path(path).stem.removeprefix(f"{game.replace('/', '-')}-")
        if label in agents:
            source.refuse(keys, f"has two files named {Path(path).name}: give one a name in agents")
        if not (source.file.parent / path).is_file():
            source.refuse(keys, f"names {path}, which is not there")
        agents[label] = NamedAgent("checkpoint", at_base(path), {})
    return agents


def _victims(source: Source, options: Options, keys: tuple[str, ...]) -> tuple[Victims, Options]:
    """Which agents a command attacks, and the options that are left for the command itself."""
    agents = train_seeds = None
    if "agents" in options:
        agents = source.list_of(options["agents"], (*keys, "agents"), str, 'names, as in ["dqn", "snn-t8"]')
    if "train_seeds" in options:
        train_seeds = source.seeds(options["train_seeds"], (*keys, "train_seeds"))
    left = {key: value for key, value in options.items() if key not in CHOICES}
    return Victims(agents, train_seeds), left


def _agent(source: Source, value: object, keys: tuple[str, ...], at_base: Callable[[str], str]) -> NamedAgent:
    """An agent as the file names it."""
    named = value.get("source") if isinstance(value, dict) else value
    if not isinstance(named, str) or not named:
        source.refuse(
            keys,
            f"is {shown(value)}: accepted are a registered name, the path of a checkpoint (.safetensors), of a run "
            'folder or of another project\'s file, and { source = "file" } with options of convert import',
        )
    path = source.file.parent / named
    if isinstance(value, dict):
        options = source.options({key: each for key, each in value.items() if key != "source"}, keys)
    else:
        options = {}
        if path.is_dir():
            return NamedAgent("run", at_base(named), {})
        if path.suffix == ".safetensors" and path.is_file():
            return NamedAgent("checkpoint", at_base(named), {})
        if "." not in named and not path.exists():
            return NamedAgent("registered", named, {})
    if not path.is_file():
        source.refuse(keys, f"names {named}, which is not there")
    return NamedAgent("foreign", at_base(named), options)

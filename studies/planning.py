"""Plan a study: its stages, each as the command that a user would type. Never imports torch."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple, assert_never

from core.errors import Refusal
from core.words import nearest
from studies.reading import ATTACKS, TRAINING, GameSettings, NamedAgent, Study
from studies.source import Options

_SEED = re.compile(r"-s(\d+)$")
StageKind = Literal["train", "import", "convert", "compare", "evaluate", "attack", "probe"]


@dataclass(frozen=True)
class Stage:
    """One command of a study."""

    kind: StageKind
    """The kind of work."""
    arguments: tuple[str, ...]
    """Its command line after `python -m`. Paths in it start at the study's base."""
    manifest: Path
    """The manifest that it writes."""
    needs: tuple[Path, ...]
    """Files that it reads: results of other stages, or agents that exist already."""
    results: tuple[Path, ...]
    """Files that it writes and that later stages may need."""
    setting: tuple[str, ...]
    """Keys of the entry of the study that holds its options; empty for a stage without an entry."""
    game: str = ""
    """The game; empty for a stage that belongs to none."""
    agent: str = ""
    """Label of the agent that it makes or measures, as in dqn-s0; empty if there are several or none."""

    @property
    def agent_name(self) -> str:
        """The agent without its training seed, as in dqn."""
        return _name_of(self.agent)

    @property
    def seed(self) -> int | None:
        """Training seed of the agent, if it has one."""
        return _seed_of(self.agent)

    @property
    def name(self) -> str:
        """Its name in messages, as in "train pong/dqn-s0"."""
        return f"{self.kind} {self.manifest.parent.relative_to(self.manifest.parents[2])}"


def _name_of(label: str) -> str:
    """An agent's label without the training seed at its end."""
    return _SEED.sub("", label)


def _seed_of(label: str) -> int | None:
    """The training seed at the end of an agent's label, if it has one."""
    found = _SEED.search(label)
    return int(found[1]) if found else None


def plan(study: Study) -> list[Stage]:
    """The stages of a study. Each comes after the stages that it needs.

    Raises:
        Refusal: two stages would write the same results.
    """
    stages: list[Stage] = []
    for name, settings in study.games.items():
        stages += _GamePlan(study, name, settings).stages()
    if any(stage.kind == "probe" for stage in stages):
        out = f"{study.folder}/neurons/probe"
        stages.append(_stage(study, "probe", ("evaluate", "probe"), out, ("responses.parquet",)))
    planned: dict[Path, Stage] = {}
    for stage in stages:
        other = planned.setdefault(stage.manifest, stage)
        if other is not stage:
            study.source.refuse(
                stage.setting[:2],
                f"has two agents that would write {stage.manifest}: give one of them another name",
            )
    return stages


def with_needs(wanted: Iterable[Stage], stages: Sequence[Stage]) -> list[Stage]:
    """The wanted stages and those that they need, in the study's order."""
    chosen = set(wanted)
    while True:
        needed = {need for stage in chosen for need in stage.needs}
        added = {stage for stage in stages if needed.intersection(stage.results)} - chosen
        if not added:
            return [stage for stage in stages if stage in chosen]
        chosen |= added


def narrowed(
    stages: Sequence[Stage], games: Sequence[str], agents: Sequence[str], seeds: Sequence[int]
) -> list[Stage]:
    """The stages of some games, agents and training seeds, and those that these need. An empty list means all.

    A stage of no game, of several agents or of an agent without a seed is left out where games, agents or seeds are
    named.

    Raises:
        Refusal: the study has no such game, agent or seed.
    """
    wanted: list[Stage] = [*stages]
    chosen: Sequence[tuple[str, Sequence[object], Callable[[Stage], object]]] = (
        ("game", games, lambda stage: stage.game),
        ("agent", agents, lambda stage: stage.agent_name),
        ("seed", seeds, lambda stage: stage.seed),
    )
    for what, named, value in chosen:
        known = [*dict.fromkeys(each for each in map(value, stages) if each not in ("", None))]
        for name in named:
            if name not in known:
                near = nearest(str(name), [str(each) for each in known])
                raise Refusal(
                    f"no {what} {name!r} in this study: {near}{what}s are {', '.join(map(str, known)) or 'none'}"
                )
        if named:
            wanted = [stage for stage in wanted if value(stage) in named]
    return with_needs(wanted, stages)


class _Agent(NamedTuple):
    """An agent of a game."""

    word: str
    """What names it on command lines: a checkpoint from the study's base, or a registered name."""
    needs: tuple[str, ...] = ()
    """Files that hold it."""
    is_registered: bool = False


@dataclass(frozen=True)
class _GamePlan:
    """The stages of one game of a study."""

    study: Study
    name: str
    """Name of the game."""
    settings: GameSettings
    agents: dict[str, _Agent] = field(default_factory=dict)
    """All agents planned so far, by label."""
    dqn_of: dict[str, _Agent] = field(default_factory=dict)
    """The DQN of each converted or quantised agent, by the agent's label."""

    def stages(self) -> list[Stage]:
        """All stages of the game. Each comes after the stages that it needs."""
        return [
            *self._evaluate("random", _Agent("random", (), is_registered=True)),
            *self._train_all(),
            *self._take_all(),
            *self._convert_all(),
            *self._attack_all(),
            *self._probe(),
        ]

    def _train_all(self) -> Iterator[Stage]:
        """Train every variant with every seed, and score it."""
        for seed in self.settings.train_seeds:
            for variant, options in self.settings.trainings.items():
                label = f"{variant}-s{seed}"
                verb = TRAINING.fullmatch(variant)
                assert verb is not None
                yield self._stage(
                    "train",
                    ("train_direct", verb[1]),
                    label,
                    (f"{self.study.checkpoint}.safetensors",),
                    (),
                    ("--game", self.name, "--seed", str(seed), *_words(options), *self._common),
                    variant,
                )
                yield from self._take_run(label, f"{self._folder}/{label}")

    def _take_all(self) -> Iterator[Stage]:
        """Score the agents that exist already, after the import of those of other projects."""
        for label, named in self.settings.agents.items():
            match named.kind:
                case "registered":
                    yield from self._take(label, _Agent(named.name, is_registered=True))
                case "checkpoint":
                    yield from self._take(label, _Agent(named.name, (named.name,)))
                case "run":
                    yield from self._take_run(label, named.name)
                case "foreign":
                    yield from self._import(label, named)
                case _:
                    assert_never(named.kind)

    def _import(self, label: str, named: NamedAgent) -> Iterator[Stage]:
        """Import an agent of another project, and score it."""
        options = ("--source", named.name, "--game", self.name, *_words(named.options), *self._extensions)
        out, file = f"{label}/agent.safetensors", f"{self._folder}/{label}/agent.safetensors"
        command = ("convert", "import")
        yield self._stage(
            "import", command, out, ("agent.safetensors",), (named.name,), options, "agents", label
        )
        yield from self._take(label, _Agent(file, (file,)))

    def _take(self, label: str, agent: _Agent) -> Iterator[Stage]:
        """Score an agent. It takes part in all that follows."""
        yield from self._evaluate(label, agent)
        self.agents[label] = agent

    def _take_run(self, label: str, run: str) -> Iterator[Stage]:
        """Score the best and the last weights of a run folder. One of them takes part in all that follows."""
        # The first file is the result of its training.
        names = dict.fromkeys((self.study.checkpoint, "best", "agent"))
        yield from self._evaluate(label, _Agent(run, tuple(f"{run}/{name}.safetensors" for name in names)))
        weights = f"{run}/{self.study.checkpoint}.safetensors"
        self.agents[label] = _Agent(weights, (weights,))

    def _evaluate(self, label: str, agent: _Agent) -> Iterator[Stage]:
        if "evaluate" in self.settings.commands:
            arguments = (*self._as_victim(agent), *self._options("evaluate"), *self._seed, *self._common)
            yield self._stage(
                "evaluate",
                ("evaluate", "run"),
                f"evaluate-{label}",
                ("episodes.parquet",),
                agent.needs,
                arguments,
                "evaluate",
            )

    def _convert_all(self) -> Iterator[Stage]:
        """Convert every DQN by every method, score the results, and compare the methods on the first DQN."""
        dqns = {
            label: agent
            for label, agent in self.agents.items()
            if re.search(_word("dqn"), label) and not agent.is_registered
        }
        here = [method for method in self.settings.conversions if method not in self.settings.shared]
        if here and not dqns:
            self.study.source.refuse(self._keys(here[0]), "converts nothing: the game has no agent dqn")
        for method in self.settings.conversions:
            for label, dqn in dqns.items():
                yield from self._convert(method, label, dqn)
        if "compare" in self.settings.commands and dqns:
            label, dqn = next(iter(dqns.items()))
            arguments = ("--agent", dqn.word, *self._options("compare"), *self._common)
            yield self._stage(
                "compare",
                ("convert", "compare"),
                f"compare-{label}",
                ("methods.parquet",),
                dqn.needs,
                arguments,
                "compare",
            )

    def _convert(self, method: str, label: str, dqn: _Agent) -> Iterator[Stage]:
        """Convert one DQN, and score the spiking network, and the quantised DQN if it is kept."""
        options = self.settings.conversions[method]
        variant = method.removeprefix("convert")
        network = re.sub(_word("dqn"), f"snn{variant}", label)
        names = ["agent.safetensors", *(["agent.quantised.safetensors"] if options.get("quantised") else [])]
        arguments = ("--agent", dqn.word, *_words(options), *self._common)
        out = f"{network}/{names[0]}"
        yield self._stage("convert", ("convert", "run"), out, names, dqn.needs, arguments, method)
        for kind, name in zip(("snn", "quantised"), names, strict=False):
            file = f"{self._folder}/{network}/{name}"
            new_label = re.sub(_word("dqn"), kind + variant, label)
            yield from self._take(new_label, _Agent(file, (file,)))
            self.dqn_of[new_label] = dqn

    def _attack_all(self) -> Iterator[Stage]:
        """Attack agents in their games, and on states of the first agent's play."""
        played, on_states = map(self._victims, ATTACKS)
        for label, agent in self.agents.items():
            if label in played:
                yield self._attack("attack", "run", label, "attacks.parquet")
            if label in on_states:
                first = next(iter(self.agents.values()))
                others = self._transfer_agents({agent, self.dqn_of.get(label, agent)})
                yield self._attack("states", "states", label, "state_attacks.parquet", first, others)

    def _victims(self, setting: str) -> list[str]:
        """Labels of the agents that a command attacks.

        Raises:
            Refusal: it names an agent or a training seed that the game does not have.
        """
        victims = self.settings.victims[setting]
        known = [*dict.fromkeys(map(_name_of, self.agents))]
        for name in victims.agents or ():
            if name not in known:
                self.study.source.refuse(
                    self._keys(setting, "agents"),
                    f"names {name!r}: {nearest(name, known)}agents of {self.name} are {', '.join(known)}",
                )
        if setting not in self.settings.commands:
            return []
        chosen = [
            label for label in self.agents if victims.agents is None or _name_of(label) in victims.agents
        ]
        seeds = [*dict.fromkeys(seed for seed in map(_seed_of, chosen) if seed is not None)]
        for seed in victims.train_seeds or ():
            # What the file says of all games may name seeds that only some of them have.
            if seed not in seeds and chosen and setting not in self.settings.shared:
                self.study.source.refuse(
                    self._keys(setting, "train_seeds"),
                    f"names {seed}: training seeds of these agents are {', '.join(map(str, seeds)) or 'none'}",
                )
        return [
            label for label in chosen if victims.train_seeds is None or _seed_of(label) in victims.train_seeds
        ]

    def _attack(
        self,
        setting: str,
        verb: str,
        label: str,
        result: str,
        states_of: _Agent | None = None,
        transfer: Sequence[_Agent] = (),
    ) -> Stage:
        """Attack one agent.

        Args:
            setting: name of the options in the study.
            verb: of `python -m adversarial`.
            label: the victim's label.
            result: name of the rows' file.
            states_of: the agent whose play the states come from; None to attack games.
            transfer: other agents along whose gradients the victim is attacked too.
        """
        victim = self.agents[label]
        arguments, needs = [*self._as_victim(victim), *self._options(setting)], [*victim.needs]
        if states_of is not None:
            arguments += ["--states-of", states_of.word]
            needs += states_of.needs
        if transfer:
            arguments += ["--transfer", *(other.word for other in transfer)]
            needs += [need for other in transfer for need in other.needs]
        if label in self.dqn_of and self.settings.commands[setting].get("best_source"):
            arguments += ["--twin", self.dqn_of[label].word]
            needs += self.dqn_of[label].needs
        arguments += [*self._seed, *self._common]
        return self._stage(
            "attack", ("adversarial", verb), f"{setting}-{label}", (result,), needs, arguments, setting
        )

    def _transfer_agents(self, known: Set[_Agent]) -> list[_Agent]:
        """The first DQN and the first DSQN that are neither the victim nor the DQN that it was made from.

        Variants, as dsqn-cmc, come after the networks that are named by their kind alone.
        """
        found: list[_Agent] = []
        for kind in ("dqn", "dsqn"):
            others = [label for label, agent in self.agents.items() if agent not in (*known, *found)]
            for pattern in (rf"{_word(kind)}(-s\d+)?$", _word(kind)):
                if named := [label for label in others if re.search(pattern, label)]:
                    found.append(self.agents[named[0]])
                    break
        return found

    def _probe(self) -> Iterator[Stage]:
        """Probe all agents: together if their representations are compared, else each alone."""
        options = self.settings.commands.get("probe")
        if options is None or not self.agents:
            return
        embedding = options.get("embedding", True)
        if not isinstance(embedding, bool):
            self.study.source.refuse(
                self._keys("probe", "embedding"), f"is {embedding!r}: accepted are true and false"
            )
        if embedding:
            probed = {"probe": [*self.agents.values()]}
        else:
            probed = {f"probe-{label}": [agent] for label, agent in self.agents.items()}
        for out, agents in probed.items():
            game = ("--game", self.name) if any(agent.is_registered for agent in agents) else ()
            words = [agent.word for agent in agents]
            arguments = ("--agent", *words, *game, *self._options("probe"), *self._seed, *self._common)
            needs = [need for agent in agents for need in agent.needs]
            yield self._stage(
                "probe", ("evaluate", "probe"), out, ("operations.parquet",), needs, arguments, "probe"
            )

    def _as_victim(self, agent: _Agent) -> tuple[str, ...]:
        """The options that name an agent. A registered one does not know its game."""
        return ("--agent", agent.word, *(("--game", self.name) if agent.is_registered else ()))

    def _keys(self, setting: str, *keys: str) -> tuple[str, ...]:
        """Where the study's file has a setting of the game, or an entry of it."""
        table = ("defaults",) if setting in self.settings.shared else ("games", self.name)
        return (*table, self.settings.written.get(setting, setting), *keys)

    def _options(self, command: str) -> list[str]:
        return _words(self.settings.commands[command])

    @property
    def _folder(self) -> str:
        """Folder of the game's results."""
        return f"{self.study.folder}/{self.name.replace('/', '-')}"

    @property
    def _common(self) -> tuple[str, ...]:
        """Options of all commands that compute."""
        return ("--threads", str(self.study.threads), *self._extensions)

    @property
    def _extensions(self) -> tuple[str, ...]:
        return tuple(word for name in self.study.extensions for word in ("--extension", name))

    @property
    def _seed(self) -> tuple[str, ...]:
        """Options of commands that play games to score."""
        return ("--seed", str(self.study.evaluation_seed))

    def _stage(
        self,
        kind: StageKind,
        command: tuple[str, str],
        out: str,
        results: Sequence[str],
        needs: Sequence[str],
        arguments: Sequence[str],
        setting: str,
        *keys: str,
    ) -> Stage:
        """A stage of the game. See `_stage`; `out` starts at the game's folder, the keys at the setting's table."""
        entry = self._keys(setting, *keys)
        stage = _stage(self.study, kind, command, f"{self._folder}/{out}", results, needs, arguments, entry)
        measures = kind in ("evaluate", "compare", "attack", "probe")
        label = out.split("/")[0].removeprefix(f"{setting}-" if measures else "")
        return replace(stage, game=self.name, agent="" if out == "probe" else label)


def _stage(
    study: Study,
    kind: StageKind,
    command: tuple[str, str],
    out: str,
    results: Sequence[str],
    needs: Sequence[str] = (),
    arguments: Sequence[str] = (),
    setting: tuple[str, ...] = (),
) -> Stage:
    """A stage of a study.

    Args:
        study: the study.
        kind: the work it does.
        command: module and verb.
        out: its --out, from the study's base: a folder with a manifest in it, or a checkpoint with one beside it.
        results: file names of its results, which lie beside the manifest.
        needs: files that it reads, from the study's base.
        arguments: its options.
        setting: keys of the entry that it was made of.
    """
    ending = ".safetensors"
    manifest = f"{out.removesuffix(ending)}.manifest.json" if out.endswith(ending) else f"{out}/manifest.json"
    return Stage(
        kind,
        (*command, *arguments, "--out", out),
        study.base / manifest,
        tuple(study.base / need for need in needs),
        tuple((study.base / manifest).parent / result for result in results),
        setting,
    )


def _word(kind: str) -> str:
    """Pattern of a kind of agent as a word of a label, as in old-dqn and dqn_old."""
    return rf"(?<![a-z0-9]){kind}(?![a-z0-9])"


def _words(options: Options) -> list[str]:
    """Options as words of a command line."""
    words: list[str] = []
    for name, value in options.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words += [f"--{option}"] if value else [f"--{option}", "False"]
        else:
            words += [f"--{option}", *map(str, value if isinstance(value, list) else [value])]
    return words

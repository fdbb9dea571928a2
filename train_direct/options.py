"""Options of the verbs of training, and the recipe that they choose."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, Literal

import tyro

from core.choices import Device, Precision
from core.cli import OneOf, Switch
from core.errors import Refusal
from core.games import Game
from core.options import parse_settings
from core.ranges import EnvCount, Real, Seed, Steps, Threads, Whole
from play.options import ComputeOptions
from train_direct.recipe import EvalEpisodes, NStep, R, ReplaySteps, TotalSteps, changed, label


@dataclass(frozen=True)
class Chosen(Generic[R]):
    """The recipe of a command."""

    named: R
    """The named recipe, as it applies to the game."""
    recipe: R
    """The same with the changes of the command."""
    label: str
    """Its name in rows."""


@dataclass(frozen=True, kw_only=True)
class KeepOptions:
    """What is kept on disk, and how often."""

    curve_interval_steps: Steps = 1000
    """Decisions between two points of the learning curve."""
    checkpoint_interval_steps: Steps = 10_000
    """Decisions between two states to resume from."""
    keep_interval_steps: Steps | None = None
    """Decisions between weights that are kept as OUT/steps-*.safetensors, besides the best and the last."""
    keep_episodes: list[Steps] | None = None
    """Numbers of training episodes after which weights are kept as OUT/episodes-*.safetensors."""


@dataclass(frozen=True, kw_only=True)
class RunOptions(KeepOptions, ComputeOptions):
    """How training is run, and for how long."""

    game: Annotated[str, OneOf("Game to train on.", "core.games:GAMES")]
    out: Path
    """Run folder. The same command resumes an unfinished run, and says so if the run is done."""
    recipe: str | None = None
    """How training is run; the game's usual recipe if not given."""
    set: Annotated[list[list[str]], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="FIELD=VALUE ...")] = (
        field(default_factory=list)
    )
    """Other values for fields of the recipe, as in --set learning_rate=1e-3 batch_size=64
    dynamics.sticky_action_probability=0.25. A wrong field is refused with the list of all. Rows name what was
    changed."""
    seed: Seed = 0
    """Seed of weights, episodes, exploration and the order of replay."""
    total_steps: TotalSteps | None = None
    """Decisions to train for, in place of the recipe's. It may be changed when an unfinished run is resumed."""
    eval_interval_steps: Steps | None = None
    """Decisions between validations, in place of the recipe's."""
    eval_episodes: EvalEpisodes | None = None
    """Episodes that one validation plays, in place of the recipe's."""
    max_episode_steps: Annotated[int, Whole(1, 100_000_000)] | Literal["unlimited"] | None = None
    """Decisions after which a training episode is cut, in place of the recipe's limit. unlimited never cuts one (not
    on Atari). Validation keeps the protocol's limit."""
    device: Device = "auto"
    """Device on which the network is trained."""
    threads: Threads = 0
    """CPU threads; 0 takes all. Only runs with equal numbers of threads are equal bit for bit."""

    kind: ClassVar[str]
    options_by_field: ClassVar[Mapping[str, str]] = {
        "total_steps": "total_steps",
        "eval_interval_steps": "eval_interval_steps",
        "eval_episodes": "eval_episodes",
        "dynamics.max_episode_frames": "max_episode_steps",
    }
    """Options that set one field of the recipe, by that field."""

    def choose(self, named: R, game: Game) -> Chosen[R]:
        """The recipe with the changes of this command.

        Args:
            named: the recipe of that name, as it applies to the game.
            game: what it trains on.

        Raises:
            Refusal: a setting names no field, has a value that is not accepted, or contradicts an option.
        """
        words = [word for given in self.set for word in given]
        settings = parse_settings(words, type(named), f"recipe {named.name}")
        options = self._options(game)
        for name in options.keys() & settings.keys():
            if options[name] != settings[name]:
                option = self.options_by_field[name]
                raise Refusal(
                    f"{name} is {settings[name]} by --set, --{option.replace('_', '-')} is {getattr(self, option)}: "
                    f"give one of them"
                )
        recipe = changed(named, options | settings)
        return Chosen(named, recipe, label(named, recipe, game))

    def _options(self, game: Game) -> dict[str, Any]:
        """The options that were given in place of a field of the recipe, by field."""
        values = {name: getattr(self, option) for name, option in self.options_by_field.items()}
        given = {name: value for name, value in values.items() if value is not None}
        if self.max_episode_steps is not None:
            limit = None if self.max_episode_steps == "unlimited" else self.max_episode_steps
            given["dynamics.max_episode_frames"] = limit and limit * game.frames_per_decision
        return given


@dataclass(frozen=True, kw_only=True)
class QLearningOptions(RunOptions):
    """Q-learning, in place of the recipe's choices."""

    recipe: Annotated[
        str | None,
        OneOf("How training is run; the game's usual recipe if not given.", "train_direct.recipe:RECIPES"),
    ] = None
    warmup_steps: Steps | None = None
    """Random decisions before learning starts, in place of the recipe's."""
    replay_steps: ReplaySteps | None = None
    """Transitions kept for replay, in place of the recipe's."""
    num_envs: EnvCount | None = None
    """Games played side by side, in place of the recipe's."""
    early_stop: bool = False
    """End when a validation mean reaches the game's stop score (Chen et al. 2022's code; Atari)."""
    double: Switch = None
    """Double DQN, in place of the recipe's choice: the online network chooses the action and the target network values
    it (Liu et al. 2022, generalisation table)."""
    n_step: NStep | None = None
    """Rewards that are summed before the rest of the return is estimated, in place of the recipe's."""
    life_loss_terminal: Switch = None
    """Whether a lost life ends the return, in place of the recipe's choice."""
    sticky_action_probability: Annotated[float, Real(0, 1, below=True)] | None = None
    """Chance that the emulator repeats an action while training, in place of the recipe's."""
    precision: Precision = "fp32"
    """Precision of the updates: fp32, or bf16 (about twice as fast on Atari; membranes and weights stay float32)."""

    options_by_field: ClassVar[Mapping[str, str]] = {
        **RunOptions.options_by_field,
        "warmup_steps": "warmup_steps",
        "replay_capacity_steps": "replay_steps",
        "num_envs": "num_envs",
        "double": "double",
        "n_step": "n_step",
        "life_loss_terminal": "life_loss_terminal",
        "dynamics.sticky_action_probability": "sticky_action_probability",
    }

    def choose(self, named: R, game: Game) -> Chosen[R]:
        chosen = super().choose(named, game)
        told = chosen.label if self.precision == "fp32" else f"{chosen.label}+{self.precision}"
        return Chosen(chosen.named, chosen.recipe, told)

"""What the verbs of training take, and how a run starts from it."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from core import seeding
from core.cli import Switch
from core.device import Device, available_memory_bytes, pick_device, set_up_torch
from core.dsqn import DSQN
from core.errors import Refusal
from core.games import Game, get_game
from core.manifest import Manifest
from core.networks import Preset, make_agent
from core.records import to_json
from train_direct.common_mode import CommonMode
from train_direct.q_learning import Precision, QLearning
from train_direct.recipes import PpoRecipe, Recipe, get_recipe, validation_protocol
from train_direct.run import Algorithm, Plan, TrainingRun, clean_up


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What every training takes."""

    game: str
    """pong, breakout, ... (17 Atari games), minatar/breakout, ... (5 MinAtar games), or cartpole."""
    out: Path
    """Run folder. Asked again with the same options it resumes, or says that it is done."""
    seed: int = 0
    """Decides weights, episodes, exploration and the order of what is learnt from."""
    total_steps: int | None = None
    """Decisions to train for; the recipe's number if not given. A run that has not ended may be given another end."""
    eval_interval_steps: int | None = None
    """Decisions between validations, in place of the recipe's."""
    eval_episodes: int | None = None
    """Games a validation plays, in place of the recipe's."""
    max_episode_steps: int | Literal["unlimited"] | None = None
    """Decisions after which a training episode is cut, in place of the recipe's limit; unlimited cuts none (not on
    Atari). Validation is played as the protocol says all the same."""
    curve_interval_steps: int = 1000
    """Decisions between two points of the learning curve."""
    checkpoint_interval_steps: int = 10_000
    """Decisions between two states to resume from."""
    keep_interval_steps: int | None = None
    """Decisions between weights that are kept for good (OUT/steps-*.safetensors), besides the best and the last."""
    keep_episodes: list[int] | None = None
    """Numbers of training episodes after which weights are kept for good too (OUT/episodes-*.safetensors)."""
    device: Device = "auto"
    """Where the network is trained."""
    threads: int = 0
    """CPU threads; 0 takes all. Equal bits need equal numbers."""

    kind: ClassVar[str]

    def _replaced(self, recipe: Recipe | PpoRecipe) -> dict[str, Any]:
        """What this command puts in place of the recipe's values."""
        given = {
            name: value
            for name in ("total_steps", "eval_interval_steps", "eval_episodes")
            if (value := getattr(self, name)) is not None
        }
        if self.max_episode_steps is not None:
            frames = None
            if self.max_episode_steps != "unlimited":
                frames = self.max_episode_steps * get_game(self.game).frames_per_decision
            given["dynamics"] = replace(recipe.dynamics, max_episode_frames=frames)
        return {name: value for name, value in given.items() if value != getattr(recipe, name)}

    def _recipe_label(self, recipe: Recipe | PpoRecipe) -> str:
        """The recipe's name in rows, with whatever about learning is not as the recipe says."""
        replaced = self._replaced(recipe).get("dynamics", recipe.dynamics)
        changed = replaced.max_episode_frames != recipe.dynamics.max_episode_frames
        return "+".join([recipe.name, *([f"max_episode_steps={self.max_episode_steps}"] if changed else [])])

    def _require_numbers(self) -> None:
        """Refuse numbers that are none, before anything is made."""
        seeding.require_seed(self.seed)
        for name in ("curve_interval_steps", "checkpoint_interval_steps", "keep_interval_steps"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise Refusal(f"{name} is {getattr(self, name)}: at least 1 is needed")
        if isinstance(self.max_episode_steps, int) and self.max_episode_steps < 1:
            raise Refusal(
                f"max_episode_steps is {self.max_episode_steps}: at least 1 is needed, or unlimited"
            )
        if self.keep_episodes and min(self.keep_episodes) < 1:
            raise Refusal(f"keep_episodes is {' '.join(map(str, self.keep_episodes))}: at least 1 is needed")

    def _spec(self, game: Game, recipe: Recipe | PpoRecipe) -> dict[str, Any]:
        """What of the manifest's specification all trainings have; what a recipe leaves out (None) is not in it, lest
        folders from before it was there be another's."""
        told = {key: value for key, value in asdict(recipe).items() if value is not None}
        return {
            "verb": f"train_direct {self.kind}",
            "game": game.name,
            "seed": self.seed,
            "recipe": recipe.name,
            **{key: value for key, value in told.items() if key not in ("name", "tier")},
            "curve_interval_steps": self.curve_interval_steps,
            "keep_interval_steps": self.keep_interval_steps,
            "keep_episodes": self.keep_episodes,
            "checkpoint_interval_steps": self.checkpoint_interval_steps,
        }

    def _plan(
        self,
        game: Game,
        named: Recipe | PpoRecipe,
        recipe: Recipe | PpoRecipe,
        network: str,
        *,
        scores_are_q_values: bool,
        stop_score: float | None = None,
    ) -> Plan:
        """The plan of a run.

        Args:
            named: the recipe of that name.
            recipe: the same with what this command replaces in it.
        """
        return Plan(
            game=game,
            network=network,
            recipe=self._recipe_label(named),
            recipe_steps=named.total_steps,
            protocol=validation_protocol(named.name, game),
            scores_are_q_values=scores_are_q_values,
            seed=self.seed,
            total_steps=recipe.total_steps,
            eval_interval_steps=recipe.eval_interval_steps,
            eval_episodes=recipe.eval_episodes,
            curve_interval_steps=self.curve_interval_steps,
            checkpoint_interval_steps=self.checkpoint_interval_steps,
            keep_interval_steps=self.keep_interval_steps,
            stop_score=stop_score,
            keep_episodes=self.keep_episodes or (),
            keep_best_episode=game.tier == "control",
        )

    def _work(
        self,
        spec: dict[str, Any],
        adjustable: Sequence[str],
        make: Callable[[], tuple[Algorithm, Plan]],
    ) -> None:
        """Train what `make` makes, resume it, or say that it is done.

        Args:
            spec: all that decides the run's numbers.
            adjustable: entries of it that a run may be resumed with other values of.
            make: the algorithm and the plan; asked only if there is work to do.
        """
        manifest = Manifest(self.out / "manifest.json", spec, adjustable)
        with manifest.work() as needed:
            if not needed:
                clean_up(self.out)
                print(f"{self.out / 'agent.safetensors'}: already done")
                return
            algorithm, plan = make()
            TrainingRun(self.out, plan, algorithm, manifest).run()
        print(f"{self.out / 'agent.safetensors'}: trained for {algorithm.steps:,} decisions")


@dataclass(frozen=True, kw_only=True)
class QLearningOptions(RunOptions):
    """What both verbs of Q-learning take."""

    recipe: str | None = None
    """liu2022, chen2022, atari-fast, minatar, minatar-fast or tutorial (cartpole); the game's fast one if not given."""
    warmup_steps: int | None = None
    """Random decisions before learning starts, in place of the recipe's."""
    replay_steps: int | None = None
    """Transitions kept for replay, in place of the recipe's."""
    num_envs: int | None = None
    """Games played side by side, in place of the recipe's."""
    early_stop: bool = False
    """End when a validation mean reaches the game's stop score (Chen et al. 2022's code; Atari)."""
    double: Switch = None
    """Double DQN (the online network chooses, the target network values; Liu et al. 2022's generalisation table) or
    not, in place of the recipe's."""
    n_step: int | None = None
    """Decisions whose rewards are added up before the rest of the return is estimated, in place of the recipe's."""
    life_loss_terminal: Switch = None
    """Whether a lost life ends the return that is learnt, in place of the recipe's."""
    sticky_action_probability: float | None = None
    """Chance that the emulator repeats an action while training, in place of the recipe's."""
    precision: Precision = "fp32"
    """Of the updates: fp32, or bf16 (about twice as fast on Atari; membranes and weights stay float32)."""

    def _replaced(self, recipe: Recipe | PpoRecipe) -> dict[str, Any]:
        common = super()._replaced(recipe)
        replaced = {
            "warmup_steps": self.warmup_steps,
            "replay_capacity_steps": self.replay_steps,
            "num_envs": self.num_envs,
            "double": self.double,
            "n_step": self.n_step,
            "life_loss_terminal": self.life_loss_terminal,
        }
        given: dict[str, Any] = {name: value for name, value in replaced.items() if value is not None}
        if self.sticky_action_probability is not None:
            dynamics = common.pop("dynamics", recipe.dynamics)
            sticky = self.sticky_action_probability
            given["dynamics"] = replace(dynamics, sticky_action_probability=sticky)
        return common | {name: value for name, value in given.items() if value != getattr(recipe, name)}

    def _recipe_label(self, recipe: Recipe | PpoRecipe) -> str:
        told = ("warmup_steps", "replay_capacity_steps", "num_envs", "double", "n_step", "life_loss_terminal")
        replaced = self._replaced(recipe)
        changes = [f"{name}={value}" for name, value in replaced.items() if name in told]
        if self.sticky_action_probability not in (None, recipe.dynamics.sticky_action_probability):
            changes.append(f"sticky={self.sticky_action_probability:g}")
        if self.precision != "fp32":
            changes.append(self.precision)
        return "+".join([super()._recipe_label(recipe), *changes])

    def train(
        self, network_name: str, network: Preset, compensate: bool = False, sim_steps: Sequence[int] = ()
    ) -> None:
        """Train (with common-mode compensation or temporal pruning if asked), resume, or say that it is done."""
        set_up_torch(self.threads)
        self._require_numbers()
        game = get_game(self.game)
        named = get_recipe(self.recipe, game)
        recipe = replace(named, **self._replaced(named))
        if self.early_stop and game.stop_score is None:
            raise Refusal(
                f"early_stop is given, but {game.name} has no stop score: only Atari games have one"
            )
        share = recipe.total_steps // max(1, len(sim_steps))
        first_update = recipe.warmup_steps + recipe.train_interval_steps
        if sim_steps and share < max(first_update, recipe.num_envs):
            raise Refusal(
                f"total_steps is {recipe.total_steps}: {share} decisions for each of {len(sim_steps)} numbers of "
                f"simulation steps, at least {max(first_update, recipe.num_envs)} are needed"
            )
        device = pick_device(self.device)
        stop_score = game.stop_score if self.early_stop else None
        spec = {
            **self._spec(game, recipe),
            "network": network_name,
            "network_settings": to_json(asdict(network)),
            "cmc": compensate,
            "sim_steps_in_turn": list(sim_steps),
            "precision": self.precision,
            "stop_score": stop_score,
        }

        def make() -> tuple[Algorithm, Plan]:
            agent = make_agent(game, network, seeding.torch_generator(self.seed, "weights")).to(device)
            common_mode = None
            if compensate and isinstance(agent, DSQN):
                common_mode = CommonMode(agent, seeding.torch_generator(self.seed, "common mode")).to(device)
            algorithm = QLearning(
                agent,
                game,
                recipe,
                self.seed,
                self.out,
                self.checkpoint_interval_steps,
                self.precision,
                common_mode,
                sim_steps,
            )
            gib = algorithm.replay_bytes / 2**30
            print(
                f"{self.out}: the replay takes {gib:.2f} GiB of disk, and is read from memory while as much is free "
                f"({available_memory_bytes() / 2**30:.1f} GiB now)",
                file=sys.stderr,
            )
            return algorithm, self._plan(
                game,
                named,
                recipe,
                network_name,
                scores_are_q_values=not compensate,
                stop_score=stop_score,
            )

        # What temporal pruning does depends on how long the run is.
        self._work(spec, () if sim_steps else ("total_steps",), make)

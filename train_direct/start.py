"""Start a run: options, recipe and network become an algorithm in a run folder."""

import contextlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from core import seeding
from core.device import pick_device, set_up_torch
from core.dsqn import DSQN, Spiking
from core.errors import Refusal
from core.games import Game, get_game
from core.layered import Layered
from core.manifest import Manifest, read_manifest
from core.memory import available_bytes, require_fits
from core.networks import Network
from core.reading import parse_json
from core.records import MAX_ROWS, to_json
from play.protocols import get_protocol
from train_direct.algorithm import Algorithm
from train_direct.common_mode import CommonMode
from train_direct.options import Chosen, QLearningOptions, RunOptions
from train_direct.ppo import PPO, critic_game
from train_direct.q_learning import QLearning
from train_direct.recipe import IDENTITY, BaseRecipe, PpoRecipe, R, Recipe, get_ppo_recipe, get_recipe
from train_direct.run import Plan, TrainingRun, clean_up, files_of_run
from train_direct.training import training_digest


def train_q_network(
    options: QLearningOptions,
    network_name: str,
    network: Network,
    compensate: bool = False,
    sim_steps: Sequence[int] = (),
) -> None:
    """Train a DQN or DSQN by Q-learning, resume its run, or say that it is done.

    Args:
        options: of the command.
        network_name: the name of the network in rows, with what was changed in it.
        network: the network to train.
        compensate: whether the DSQN's common mode is compensated while it is trained.
        sim_steps: simulation steps of temporal pruning, one after the other for equal shares of the run.

    Raises:
        Refusal: the options do not fit each other, the game or the folder.
    """
    set_up_torch(options.threads)
    game = get_game(options.game)
    chosen = options.choose(get_recipe(options.recipe, game), game)
    recipe = chosen.recipe
    if options.early_stop and game.stop_score is None:
        raise Refusal(f"early_stop is given, but {game.name} has no stop score: only Atari games have one")
    _require_long_enough(recipe, len(sim_steps))
    _require_rows_fit(options, recipe)
    device = pick_device(options.device)
    stop_score = game.stop_score if options.early_stop else None
    spec = {
        **_spec(options, game, recipe),
        "network": network_name,
        "network_settings": _network_settings(network, options.out),
        "cmc": compensate,
        "sim_steps_in_turn": list(sim_steps),
        "precision": options.precision,
        "stop_score": stop_score,
    }

    def make() -> tuple[Algorithm, Plan]:
        agent = network.make(game, seeding.torch_generator(options.seed, "weights")).to(device)
        _require_updates_fit(agent, recipe.batch_size)
        _require_batches_fit(game, recipe)
        training = training_digest(
            agent,
            recipe,
            cmc=compensate,
            sim_steps_in_turn=sim_steps,
            precision=options.precision,
            early_stop=options.early_stop,
        )
        common_mode = None
        if compensate and isinstance(agent, DSQN):
            common_mode = CommonMode(agent, seeding.torch_generator(options.seed, "common mode")).to(device)
        algorithm = QLearning(
            agent,
            game,
            recipe,
            options.seed,
            options.out,
            options.checkpoint_interval_steps,
            options.precision,
            common_mode,
            sim_steps,
        )
        gib = algorithm.replay_bytes / 2**30
        print(
            f"{options.out}: the replay takes {gib:.2f} GiB of disk and is read from memory while that much is free "
            f"({available_bytes() / 2**30:.1f} GiB now)",
            file=sys.stderr,
        )
        if (left := recipe.epsilon(recipe.total_steps)) > 2 * recipe.epsilon_end:
            print(
                f"{options.out}: at the end {left:.0%} of actions are still random, because the recipe explores for "
                f"{recipe.epsilon_decay_steps:,} decisions; --set epsilon_decay_steps=N changes that",
                file=sys.stderr,
            )
        plan = _plan(
            options,
            game,
            chosen,
            network_name,
            training,
            scores_are_q_values=not compensate,
            stop_score=stop_score,
        )
        return algorithm, plan

    # The schedule of temporal pruning depends on how long the run is.
    _work(options, spec, () if sim_steps else ("total_steps",), make)


def train_actor(options: RunOptions, network_name: str, network: Network) -> None:
    """Train an actor by proximal policy optimisation, resume its run, or say that it is done.

    Args:
        options: of the command.
        network_name: the name of the network in rows, with what was changed in it.
        network: the network to train. The critic has the same architecture.

    Raises:
        Refusal: the options do not fit each other, the game or the folder.
    """
    set_up_torch(options.threads)
    game = get_game(options.game)
    chosen = options.choose(get_ppo_recipe(options.recipe, game), game)
    _require_rows_fit(options, chosen.recipe)
    device = pick_device(options.device)
    spec = {
        **_spec(options, game, chosen.recipe),
        "network": network_name,
        "network_settings": _network_settings(network, options.out),
    }

    def make() -> tuple[Algorithm, Plan]:
        actor, critic = (
            network.make_actor(whose, seeding.torch_generator(options.seed, stream)).to(device)
            for whose, stream in ((game, "weights"), (critic_game(game), "critic"))
        )
        _require_updates_fit(actor, chosen.recipe.batch_size)
        algorithm = PPO(actor, critic, game, chosen.recipe, options.seed)
        training = training_digest(actor, chosen.recipe)
        return algorithm, _plan(options, game, chosen, network_name, training, scores_are_q_values=False)

    _work(options, spec, ("total_steps",), make)


def _require_updates_fit(agent: Layered, batch_size: int) -> None:
    """Refuse a network whose updates do not fit into memory."""
    if agent.device.type != "cpu":
        return
    name, value = ("sim_steps", agent.sim_steps) if agent.sim_steps > 1 else ("batch_size", batch_size)
    require_fits(name, value, agent.gradient_bytes(batch_size), f"an update from {batch_size} decisions")


def _require_batches_fit(game: Game, recipe: Recipe) -> None:
    """Refuse batches that do not fit into memory. Those of all updates that are due at once are drawn together."""
    due = -(-recipe.num_envs // recipe.train_interval_steps)
    # Two observations each, put together from frames.
    needed = 2 * 2 * due * recipe.batch_size * game.observation_bytes
    require_fits("batch_size", recipe.batch_size, needed, f"batches of {due} updates at once")


def _require_rows_fit(options: RunOptions, recipe: Recipe | PpoRecipe) -> None:
    """Refuse intervals at which a run would make more rows than a file keeps."""
    counts = (
        ("curve_interval_steps", options.curve_interval_steps, 1, "points of the curve"),
        ("eval_interval_steps", recipe.eval_interval_steps, recipe.eval_episodes, "validation episodes"),
    )
    for name, interval, at_once, what in counts:
        # All games decide at once, so that no two points lie nearer.
        rows = at_once * (recipe.total_steps // max(interval, recipe.num_envs) + 1)
        if rows > MAX_ROWS:
            raise Refusal(f"{name} is {interval}: {rows:,} {what}, and at most {MAX_ROWS:,} are kept")


def _require_long_enough(recipe: Recipe, shares: int) -> None:
    """Refuse a run that is too short for each number of simulation steps to get an update."""
    least = max(recipe.warmup_steps + recipe.train_interval_steps, recipe.num_envs)
    if shares and recipe.total_steps // shares < least:
        raise Refusal(
            f"total_steps is {recipe.total_steps}: {recipe.total_steps // shares} decisions for each of {shares} "
            f"numbers of simulation steps, and at least {least} are needed"
        )


def _spec(options: RunOptions, game: Game, recipe: BaseRecipe) -> dict[str, Any]:
    """The part of a manifest's specification that all trainings have.

    Values of None are left out. So a later version can add a field that is None by default, and older folders keep
    their specification.
    """
    told = {name: value for name, value in asdict(recipe).items() if value is not None}
    return {
        "verb": f"train_direct {options.kind}",
        "game": game.name,
        "seed": options.seed,
        "recipe": recipe.name,
        **{name: value for name, value in told.items() if name not in IDENTITY},
        "curve_interval_steps": options.curve_interval_steps,
        "keep_interval_steps": options.keep_interval_steps,
        "keep_episodes": options.keep_episodes,
        "checkpoint_interval_steps": options.checkpoint_interval_steps,
    }


def _network_settings(network: Network, folder: Path) -> str:
    """The network in a manifest's specification, in the words of the folder's manifest if that has the same network.

    Versions before 0.2 wrote spiking networks in another form. This way their runs can be resumed, and their finished
    runs are recognised.
    """
    settings = network.config()
    record = read_manifest(folder / "manifest.json")
    recorded = record.spec.get("network_settings") if record is not None else None
    if isinstance(recorded, str):
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, Refusal):
            found = parse_json(recorded)
            if found["spiking"] is not None:
                found["spiking"] = Spiking.from_config(found["spiking"]).config()
            if to_json(found) == to_json(settings):
                return recorded
    return to_json(settings)


def _plan(
    options: RunOptions,
    game: Game,
    chosen: Chosen[R],
    network: str,
    training: str,
    *,
    scores_are_q_values: bool,
    stop_score: float | None = None,
) -> Plan:
    return Plan(
        game=game,
        network=network,
        recipe=chosen.label,
        recipe_steps=chosen.named.total_steps,
        training=training,
        protocol=get_protocol(chosen.named.protocol, game),
        scores_are_q_values=scores_are_q_values,
        seed=options.seed,
        total_steps=chosen.recipe.total_steps,
        eval_interval_steps=chosen.recipe.eval_interval_steps,
        eval_episodes=chosen.recipe.eval_episodes,
        curve_interval_steps=options.curve_interval_steps,
        checkpoint_interval_steps=options.checkpoint_interval_steps,
        keep_interval_steps=options.keep_interval_steps,
        stop_score=stop_score,
        keep_episodes=options.keep_episodes or (),
        keep_best_episode=game.tier == "control",
    )


def _work(
    options: RunOptions,
    spec: dict[str, Any],
    adjustable: Sequence[str],
    make: Callable[[], tuple[Algorithm, Plan]],
) -> None:
    """Train what `make` makes, resume it, or say that it is done.

    Args:
        options: of the command.
        spec: all that decides the run's numbers.
        adjustable: entries of `spec` that may have other values when a run is resumed.
        make: makes the algorithm and the plan; it is called only if there is work to do.
    """
    results = options.out / "agent.safetensors"
    manifest = Manifest(options.out / "manifest.json", spec, files_of_run(options.out), adjustable)
    with manifest.work() as needed:
        if not needed:
            clean_up(options.out)
            print(f"{results}: already done")
            return
        algorithm, plan = make()
        TrainingRun(options.out, plan, algorithm, manifest).run()
    print(f"{results}: trained for {algorithm.steps:,} decisions")

"""What TensorBoard shows of a run."""

from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from core.checkpoint import load_agent
from core.dqn import DQN
from core.dsqn import DSQN, Spiking
from core.games import get_game
from core.layers import initialise
from play.episodes import play
from play.protocols import get_protocol
from play.rollout import Step
from tests.conftest import AGENTS, Command
from train_direct.board import LOOKED_AT, Board, neurons

RUN = (
    *(
        "--game",
        "minatar/breakout",
        "--total-steps",
        600,
        "--warmup-steps",
        100,
        "--eval-interval-steps",
        300,
    ),
    *("--eval-episodes", 1, "--curve-interval-steps", 200, "--threads", 1),
)


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }


@pytest.mark.parametrize("verb", ["dqn", "dsqn"])
def test_a_run_shows_what_is_looked_for(verb: str, tmp_path: Path, command: Command) -> None:
    assert command("train_direct", verb, *RUN, "--out", tmp_path / "run").code == 0
    shown = scalars(tmp_path / "run")
    train = {"epsilon", "loss", "q_mean", "train_score", "steps_per_second", "td_error", "gradient_norm"}
    layers = ("layer1", "layer2")
    spiking = {f"{what}/{layer}" for what in ("firing_rate", "saturated_neurons") for layer in layers}
    validation = {"score", "max_q", *(f"silent_neurons/{layer}" for layer in layers)}
    validation |= {*spiking, "spikes_per_decision"} if verb == "dsqn" else set()
    assert shown.keys() == {f"train/{name}" for name in train} | {f"validation/{name}" for name in validation}
    # Decisions are made in several games at a time.
    assert [steps // 100 for steps, _ in shown["train/td_error"]] == [2, 4, 6]
    assert [steps // 100 for steps, _ in shown["validation/score"]] == [3, 6]
    assert all(value > 0 for tag in ("td_error", "gradient_norm") for _, value in shown[f"train/{tag}"])
    shares = [value for tag, values in shown.items() if "neurons" in tag for _, value in values]
    assert all(0 <= share <= 1 for share in shares)


def test_neurons_are_looked_at_in_states_of_whole_games(tmp_path: Path) -> None:
    agent = load_agent(AGENTS / "minatar-breakout-dsqn-s0.safetensors").agent
    protocol = get_protocol("minatar", agent.game)
    board, met = Board(tmp_path, 0), []

    def look(step: Step) -> None:
        board.look_at(step)
        met.extend(observation.tobytes() for observation in step.observations)

    games = range(30)
    assert len([*play(agent, agent.game, protocol, eval_seed=0, episodes=games, on_step=look)]) == len(games)
    board.close()
    when = [met.index(state.tobytes()) / len(met) for state in board._states.kept]
    assert len(when) == LOOKED_AT
    assert (
        sum(share > 0.25 for share in when) >= LOOKED_AT / 4
    )  # by its first meeting, and games repeat states


def test_neurons_that_never_fire_are_silent() -> None:
    game = get_game("minatar/breakout")
    agent = DSQN(game, Spiking())
    for parameter in agent.parameters():
        parameter.data.zero_()
    states = torch.ones(4, *game.observation_shape)
    assert dict(neurons(agent, states)) == {
        **{"silent_neurons/layer1": 1.0, "saturated_neurons/layer1": 0.0},
        **{"silent_neurons/layer2": 1.0, "saturated_neurons/layer2": 0.0},
    }


def test_neurons_that_always_fire_are_saturated() -> None:
    game = get_game("minatar/breakout")
    agent = DSQN(game, Spiking())
    for parameter in agent.parameters():
        parameter.data.fill_(10.0)
    found = dict(neurons(agent, torch.ones(4, *game.observation_shape)))
    assert found["saturated_neurons/layer1"] == found["saturated_neurons/layer2"] == 1.0
    assert found["silent_neurons/layer1"] == 0.0


def test_activations_that_are_never_positive_are_silent() -> None:
    game = get_game("cartpole")
    agent = DQN(game)
    initialise(agent.layers, torch.Generator().manual_seed(0))
    first = next(iter(agent.layers))
    first.weight.data[:3] = -1.0
    first.bias.data[:3] = 0.0
    states = torch.rand(100, *game.observation_shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        silent = float((torch.relu(first(states)) == 0).all(0).float().mean())
    found = dict(neurons(agent, states))
    assert found["silent_neurons/layer1"] == silent >= 3 / first.out_features
    assert not any("saturated" in name for name in found)

"""Scores against hand-summed games, rows against hand-counted spikes, protocols against the papers."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import minatar
import numpy as np
import pytest
import torch

from core import seeding
from core.agents import Agent, RandomPlay
from core.checkpoint import Checkpoint
from core.errors import Refusal
from core.games import GAMES
from core.networks import NETWORKS
from play.environments import make_environments
from play.episodes import Played, episode_row, in_turn, play, rom_md5, settings
from play.policies import exploring
from play.protocols import PROTOCOLS, Dynamics, Protocol, get_protocol
from play.rollout import Rollout, Step

ASTERIX = GAMES["minatar/asterix"]
CARTPOLE = GAMES["cartpole"]

PROVENANCE = {
    "train_seed": 3,
    "train_steps": 1000,
    "recipe_steps": 5000,
    "recipe": "minatar",
    "network": "relu",
    "scores_are_q_values": True,
}


def short_minatar(cap_frames: int = 60, epsilon: float = 0.2) -> Protocol:
    return Protocol("short", "minatar", epsilon, 5, Dynamics(0.1, cap_frames))


def by_hand(choose: Callable[[np.ndarray], int], protocol: Protocol, eval_seed: int, episode: int) -> Played:
    """An episode on MinAtar itself, without our environments, rollout or policy."""
    seed = seeding.episode_seed(eval_seed, "evaluation", episode)
    chance = seeding.generator(seed, "policy")
    game = minatar.Environment("asterix", sticky_action_prob=0.1, difficulty_ramping=True)
    game.seed(seed)
    game.reset()
    played, terminated = Played(episode), False
    while not terminated and played.length_steps < protocol.dynamics.max_episode_frames:
        action = choose(game.state())
        if protocol.epsilon > 0 and chance.random() < protocol.epsilon:
            action = int(chance.integers(6))
        reward, terminated = game.act(action)
        played.score += reward
        played.length_steps += 1
    played.truncated = not terminated
    return played


@pytest.mark.parametrize(("name", "epsilon"), [("random", 1.0), ("dqn", 0.2), ("dqn", 0.0)])
def test_scores_and_lengths_are_those_of_games_summed_by_hand(name: str, epsilon: float) -> None:
    dqn = NETWORKS["relu"].make(ASTERIX, torch.Generator().manual_seed(0))
    agent: Agent = dqn if name == "dqn" else RandomPlay(ASTERIX)

    def choose(state: np.ndarray) -> int:
        x = torch.from_numpy(state.transpose(2, 0, 1).copy()).float()[None]
        with torch.no_grad():
            return int(agent(x).argmax())

    protocol = short_minatar(90, epsilon)
    found = {
        played.episode: played for played in play(agent, ASTERIX, protocol, eval_seed=3, episodes=range(8))
    }
    expected = {episode: by_hand(choose, protocol, 3, episode) for episode in range(8)}
    for episode, hand in expected.items():
        ours = found[episode]
        assert (ours.score, ours.length_steps) == (hand.score, hand.length_steps)
        assert ours.length_frames == hand.length_steps
        assert ours.truncated == hand.truncated
    assert len({played.length_steps for played in expected.values()}) > 2
    # A greedy network that learnt nothing may earn nothing; chance earns and survives now and then.
    assert name == "dqn" or any(played.score > 0 for played in expected.values())
    assert name == "dqn" or {played.truncated for played in expected.values()} == {True, False}


def test_the_score_of_cartpole_is_its_length() -> None:
    protocol = replace(get_protocol(None, CARTPOLE), epsilon=1.0)
    found = list(play(RandomPlay(CARTPOLE), CARTPOLE, protocol, eval_seed=0, episodes=range(6), num_envs=3))
    assert all(played.score == played.length_steps == played.length_frames for played in found)
    assert not any(played.truncated for played in found)
    assert 8 < np.mean([played.score for played in found]) < 60


def test_an_atari_score_is_the_sum_of_raw_rewards_until_the_cap() -> None:
    game = GAMES["space_invaders"]
    protocol = replace(get_protocol("modern", game), dynamics=Dynamics(0.25, 800), epsilon=1.0)
    (played,) = play(RandomPlay(game), game, protocol, eval_seed=0, episodes=[4])
    seed = seeding.episode_seed(0, "evaluation", 4)
    chance, environments = seeding.generator(seed, "policy"), make_environments(game, 1, protocol.dynamics)
    environments.reset(np.array([True]), np.array([seed]))
    score = 0.0
    for _ in range(200):
        chance.random()  # below an epsilon of 1, always
        outcome = environments.step(chance.integers(6, size=1))
        score += outcome.rewards[0]
    environments.close()
    assert (played.length_steps, played.length_frames, played.truncated) == (200, 800, True)
    assert played.score == score
    assert score >= 25  # invaders are worth 5 to 30: a clipped reward would show


@pytest.mark.parametrize("num_envs", [1, 3, 16])
def test_the_number_of_environments_changes_no_score(num_envs: int) -> None:
    agent = NETWORKS["relu"].make(ASTERIX, torch.Generator().manual_seed(0))
    once, again = (
        {
            played.episode: (played.score, played.length_steps, played.truncated)
            for played in play(
                agent, ASTERIX, short_minatar(), eval_seed=0, episodes=range(7), num_envs=environments
            )
        }
        for environments in (num_envs, 2)
    )
    assert sorted(once) == list(range(7))
    assert once == again


def test_the_first_episodes_do_not_depend_on_how_many_follow() -> None:
    def scores(episodes: range) -> list[tuple[int, float, int]]:
        found = play(RandomPlay(ASTERIX), ASTERIX, short_minatar(epsilon=1.0), eval_seed=0, episodes=episodes)
        return sorted((played.episode, played.score, played.length_steps) for played in found)

    assert scores(range(9))[:4] == scores(range(4))


def test_other_seeds_and_streams_play_other_episodes() -> None:
    def lengths(**options: Any) -> list[int]:
        found = play(
            RandomPlay(ASTERIX),
            ASTERIX,
            short_minatar(1000, 1.0),
            **{"eval_seed": 0, "episodes": range(6), **options},
        )
        return [played.length_steps for played in sorted(found, key=lambda played: played.episode)]

    assert lengths() == lengths()
    assert lengths() != lengths(eval_seed=1)
    assert lengths() != lengths(stream="validation")


def test_decisions_are_reported_while_they_are_made() -> None:
    reported: list[int] = []
    found = list(
        play(
            RandomPlay(ASTERIX),
            ASTERIX,
            short_minatar(),
            eval_seed=0,
            episodes=range(5),
            num_envs=4,
            on_step=lambda step: reported.append(len(step.slots)),
        )
    )
    assert sum(reported) == sum(played.length_steps for played in found)
    assert reported[0] == 4  # these games compute nothing by themselves: all side by side
    assert reported[-1] == 1


def test_one_rollout_decides_while_the_environments_of_the_other_compute() -> None:
    seen: list[tuple[str, int]] = []

    class Watched(Rollout):
        def send(self) -> bool:
            sent = super().send()
            seen.append(("send", rollouts.index(self)) if sent else ("end", rollouts.index(self)))
            return sent

        def receive(self) -> Step:
            seen.append(("receive", rollouts.index(self)))
            return super().receive()

    dynamics = Dynamics(0.0, 2)
    rollouts = [
        Watched(
            make_environments(CARTPOLE, 1, dynamics),
            RandomPlay(CARTPOLE),
            episode_seed=lambda index: index,
            episodes=episodes,
            policy=exploring(lambda steps: 1.0),
        )
        for episodes in ([0, 1], [2])
    ]
    assert [step.episodes.tolist() for step in in_turn(rollouts)] == [[0], [2], [0], [2], [1], [1]]
    assert seen[:6] == [("send", 0), ("send", 1), ("receive", 0), ("send", 0), ("receive", 1), ("send", 1)]
    assert seen[-2:] == [("receive", 0), ("end", 0)]


def test_torch_has_its_threads_back_after_a_game_however_it_ends() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        pong = GAMES["pong"]
        protocol = replace(get_protocol(None, pong), dynamics=Dynamics(0.0, 40))
        during: list[int] = []
        list(
            play(
                RandomPlay(pong),
                pong,
                protocol,
                eval_seed=0,
                episodes=[0],
                on_step=lambda step: during.append(torch.get_num_threads()),
            )
        )
        assert set(during) == {2}
        assert torch.get_num_threads() == 3
        with pytest.raises(ZeroDivisionError):
            list(
                play(RandomPlay(pong), pong, protocol, eval_seed=0, episodes=[0], on_step=lambda step: 1 // 0)
            )
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


# Rows ------------------------------------------------------------------------------------------------


def test_a_row_holds_what_was_played_and_what_it_cost() -> None:
    agent = NETWORKS["liu2022"].make(ASTERIX, torch.Generator().manual_seed(0))
    protocol = short_minatar()
    played = Played(
        episode=5,
        score=12.0,
        length_steps=10,
        length_frames=10,
        truncated=True,
        max_q_sum=25.0,
        sim_steps=64,
        sim_steps_sum=640,
        spikes=np.array([65_536.0, 8_192.0]),
    )
    checkpoint = Checkpoint(agent, PROVENANCE, "0123456789ab")
    row = episode_row(played, checkpoint, ASTERIX, protocol, eval_seed=2)
    assert (row.game, row.agent, row.checkpoint_id) == ("minatar/asterix", "dsqn", "0123456789ab")
    assert (row.train_seed, row.train_steps, row.protocol) == (3, 1000, "short")
    assert (row.eval_seed, row.episode) == (2, 5)
    assert row.episode_seed == seeding.episode_seed(2, "evaluation", 5)
    assert (row.score, row.length_steps, row.length_frames, row.truncated) == (12.0, 10, 10, True)
    assert row.max_q_mean == 2.5
    assert (row.sim_steps, row.mean_sim_steps) == (64, 64.0)
    assert row.spikes_per_decision == 7372.8
    # 1024 and 128 neurons could have fired at 10 x 64 simulation steps.
    assert json.loads(row.layer_rates) == [0.1, 0.1]


def test_a_row_of_a_network_without_spikes_has_no_rates() -> None:
    agent = NETWORKS["relu"].make(ASTERIX, torch.Generator().manual_seed(0))
    (played,) = play(agent, ASTERIX, short_minatar(), eval_seed=0, episodes=[0])
    checkpoint = Checkpoint(agent, PROVENANCE, "0123456789ab")
    row = episode_row(played, checkpoint, ASTERIX, short_minatar(), eval_seed=0)
    assert (row.sim_steps, row.spikes_per_decision, row.layer_rates) == (0, 0.0, "[]")


def test_spikes_and_q_values_are_summed_over_the_episode() -> None:
    agent = NETWORKS["chen2022"].make(ASTERIX, torch.Generator().manual_seed(0))
    for parameter in agent.parameters():
        parameter.data.mul_(5)  # untrained, it would hardly spike
    (played,) = play(agent, ASTERIX, short_minatar(epsilon=0.0), eval_seed=0, episodes=[0])
    # The same game once more on MinAtar itself, greedily.
    game = minatar.Environment("asterix", sticky_action_prob=0.1, difficulty_ramping=True)
    game.seed(seeding.episode_seed(0, "evaluation", 0))
    game.reset()
    spikes, max_q = torch.zeros(2, dtype=torch.float64), 0.0
    highest = (-math.inf, 0.0)
    for _ in range(played.length_steps):
        x = torch.from_numpy(game.state().transpose(2, 0, 1).copy()).float()[None]
        with torch.no_grad():
            decision = agent.decide(x)
        assert decision.activity is not None
        spikes += decision.activity.spikes[0]
        max_q += decision.scores.max().item()
        highest = max(highest, (decision.scores.max().item(), decision.scores.std(correction=0).item()))
        game.act(int(decision.scores.argmax()))
    assert spikes.sum() > 0
    assert played.spikes.tolist() == spikes.tolist()
    assert played.sim_steps == 8
    assert played.max_q_sum == pytest.approx(max_q)
    assert played.max_q == pytest.approx(highest[0])
    assert played.max_q_std == pytest.approx(highest[1], rel=1e-5)


def test_a_row_stores_every_setting_that_decides_what_an_episode_is() -> None:
    breakout = GAMES["breakout"]
    stored = settings(breakout, get_protocol("liu2022", breakout))
    assert stored["protocol"] == {
        "name": "liu2022",
        "tier": "atari",
        "epsilon": 0.05,
        "episodes": 30,
        "dynamics": {
            "sticky_action_probability": 0.0,
            "max_episode_frames": 72_000,
            "noop_max_frames": 30,
            "fire_on_reset": True,
        },
        "frame_caps": (),
    }
    assert stored["rom_md5"] == "f34f08e5eb96e500e851a80be3277a56"  # the one of AutoROM's list
    assert {"torch", "ale-py"} <= set(stored["versions"])  # type: ignore[call-overload]
    assert rom_md5(ASTERIX) == ""


def test_no_environments_are_refused() -> None:
    with pytest.raises(Refusal, match="num_envs is 0"):
        next(play(RandomPlay(ASTERIX), ASTERIX, short_minatar(), eval_seed=0, episodes=[0], num_envs=0))


# Protocols -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "game", "epsilon", "episodes", "dynamics"),
    [
        ("liu2022", "pong", 0.05, 30, Dynamics(0.0, 72_000, 30, True)),
        ("chen2022", "pong", 0.05, 30, Dynamics(0.0, 400_000, 30, True)),
        ("chen2022", "space_invaders", 0.05, 30, Dynamics(0.0, 300_000, 30, True)),
        ("tan2021", "pong", 0.05, 50, Dynamics(0.0, 72_000, 30, True)),
        ("nature", "pong", 0.05, 30, Dynamics(0.0, 108_000, 30, True)),
        ("modern", "pong", 0.001, 30, Dynamics(0.25, 108_000, 0, False)),
        ("minatar", "minatar/space_invaders", 0.0, 30, Dynamics(0.1, 5_000, 0, False)),
        ("cartpole", "cartpole", 0.0, 100, Dynamics(0.0, 500, 0, False)),
    ],
)
def test_a_protocol_is_what_its_paper_says(
    name: str, game: str, epsilon: float, episodes: int, dynamics: Dynamics
) -> None:
    protocol = get_protocol(name, GAMES[game])
    assert (protocol.name, protocol.epsilon, protocol.episodes) == (name, epsilon, episodes)
    assert protocol.dynamics == dynamics


@pytest.mark.parametrize(
    "game", [game for game in GAMES.values() if game.tier == "atari"], ids=lambda g: g.name
)
def test_chen2022_caps_space_invaders_alone_at_300_000_frames(game: Any) -> None:
    cap = get_protocol("chen2022", game).dynamics.max_episode_frames
    assert cap == (300_000 if game.name == "space_invaders" else 400_000)


@pytest.mark.parametrize(
    ("game", "usual"), [("pong", "nature"), ("minatar/asterix", "minatar"), ("cartpole", "cartpole")]
)
def test_every_tier_has_a_usual_protocol(game: str, usual: str) -> None:
    assert get_protocol(None, GAMES[game]).name == usual


def test_an_unknown_protocol_is_refused_with_the_known_ones() -> None:
    with pytest.raises(Refusal, match="unknown protocol 'liu2021'") as refusal:
        get_protocol("liu2021", GAMES["pong"])
    assert all(name in str(refusal.value) for name in PROTOCOLS)


@pytest.mark.parametrize(
    ("name", "game", "accepted"),
    [
        ("liu2022", "minatar/breakout", "minatar"),
        ("minatar", "breakout", "modern"),
        ("nature", "cartpole", "cartpole"),
    ],
)
def test_a_protocol_of_another_tier_is_refused_with_the_accepted_ones(
    name: str, game: str, accepted: str
) -> None:
    with pytest.raises(Refusal, match=rf"protocol '{name}'.*{game}.*accepted for it: .*{accepted}"):
        get_protocol(name, GAMES[game])

"""The one loop: what a step says, that every episode is played once, and that play can be resumed."""

import itertools
import json
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from core import seeding
from core.agents import Agent, Decision, RandomPlay
from core.dqn import DQN
from core.errors import Refusal
from core.games import GAMES, Game
from core.networks import NETWORKS
from play.environments import Environments, Outcome, make_environments
from play.policies import exploring
from play.protocols import Dynamics
from play.rollout import Perturb, Perturbed, Rollout, Step

CARTPOLE = GAMES["cartpole"]
BREAKOUT = GAMES["minatar/breakout"]
STICKY = Dynamics(sticky_action_probability=0.1, max_episode_frames=5000)


class Scripted(Environments):
    """Episodes made on paper: of seed s, 2 + s % 4 decisions long, cut short if s is odd.

    Decision t (from 0) earns s + t / 8 + 100 x action. The observation before it is (t / 10, s, 0, 0). The
    first decision costs a life. Frames pass by threes.
    """

    def __init__(self, num_envs: int):
        super().__init__(CARTPOLE, num_envs, Dynamics(0.0, None))
        self.seeds = np.zeros(num_envs, dtype=np.int64)
        self.made = np.zeros(num_envs, dtype=np.int64)
        self.actions: list[list[int]] = []

    def _observe(self) -> np.ndarray:
        zeros = np.zeros(self.num_envs)
        return np.stack([self.made / 10, self.seeds, zeros, zeros], axis=1).astype(np.float32)

    def reset(self, mask: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        self.seeds[mask], self.made[mask] = seeds[mask], 0
        return self._observe()

    def send(self, actions: np.ndarray) -> None:
        self.actions.append(actions.tolist())

    def receive(self) -> Outcome:
        rewards = self.seeds + self.made / 8 + 100.0 * np.array(self.actions[-1])
        self.made += 1
        over, odd = self.made == 2 + self.seeds % 4, self.seeds % 2 == 1
        return Outcome(self._observe(), rewards, over & ~odd, over & odd, self.made == 1, 3 * self.made)

    def close(self) -> None:
        pass


class Threshold(Agent):
    """Scores (x, 1/4 - x) of the first element x: action 1 below 1/8, action 0 above."""

    kind = "threshold"
    game = CARTPOLE

    def decide(self, observations: Tensor, carry: Any = None) -> Decision:
        x = observations[:, 0]
        return Decision(torch.stack([x, 0.25 - x], dim=1), None, None)

    def config(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config(cls, game: Game, config: Mapping[str, Any]) -> "Threshold":
        return cls()


def scripted_rollout(
    num_envs: int, episodes: Sequence[int] | None, perturb: Perturb | None = None
) -> Rollout:
    return Rollout(
        Scripted(num_envs),
        Threshold(),
        episode_seed=lambda index: index,
        episodes=episodes,
        policy=exploring(lambda steps: 0.0),
        perturb=perturb,
    )


# What a step says ------------------------------------------------------------------------------------


def test_steps_are_those_made_by_hand() -> None:
    # Two environments; episodes 4, 9, 2 last 2, 3, 4 decisions, and episode 2 begins when 4 is over.
    steps = list(scripted_rollout(2, [4, 9, 2]))
    assert [step.slots.tolist() for step in steps] == [[0, 1], [0, 1], [0, 1], [0], [0], [0]]
    assert [step.episodes.tolist() for step in steps] == [[4, 9], [4, 9], [2, 9], [2], [2], [2]]
    assert [step.starts.tolist() for step in steps] == [
        [True, True], [False, False], [True, False], [False], [False], [False],
    ]  # fmt: skip
    assert [step.ended.tolist() for step in steps] == [
        [False, False], [True, False], [False, True], [False], [False], [True],
    ]  # fmt: skip
    # Action 1 while t / 10 is below 1/8: at the first two decisions of an episode.
    assert [step.actions.tolist() for step in steps] == [[1, 1], [1, 1], [1, 0], [1], [0], [0]]
    assert [step.outcome.rewards.tolist() for step in steps] == [
        [104.0, 109.0], [104.125, 109.125], [102.0, 9.25], [102.125], [2.25], [2.375],
    ]  # fmt: skip


def test_terminated_and_truncated_stay_apart_and_both_end_an_episode() -> None:
    steps = list(scripted_rollout(2, [4, 9]))
    assert [step.outcome.terminated.tolist() for step in steps] == [[False, False], [True, False], [False]]
    assert [step.outcome.truncated.tolist() for step in steps] == [[False, False], [False, False], [True]]


def test_an_outcome_has_the_rows_of_the_environments_that_play() -> None:
    *_, last = scripted_rollout(3, [0, 1, 3])  # 2, 3 and 5 decisions: the last one plays alone
    assert last.slots.tolist() == [2]
    assert [len(values) for values in last.outcome] == [1] * 6
    assert last.outcome.episode_frames.tolist() == [15]
    assert last.observations.shape == (1, 4)
    assert last.scores.shape == (1, 2)


def test_observations_are_those_before_the_decision_and_outcomes_those_after() -> None:
    steps = list(scripted_rollout(1, [3, 2]))
    before = [step.observations[0, :2].tolist() for step in steps]
    after = [step.outcome.observations[0, :2].tolist() for step in steps]
    clock = [np.float32(t / 10).item() for t in range(6)]
    assert before == [[clock[t], 3] for t in range(5)] + [[clock[t], 2] for t in range(4)]
    # An episode's last observation is its own, not the first one of the next.
    assert after == [[clock[t], 3] for t in range(1, 6)] + [[clock[t], 2] for t in range(1, 5)]


def test_lives_are_lost_where_the_game_says_so() -> None:
    steps = list(scripted_rollout(2, [4, 9, 2]))
    assert [step.outcome.life_lost.tolist() for step in steps] == [step.starts.tolist() for step in steps]


def test_scores_are_the_agents() -> None:
    step = next(scripted_rollout(2, [4, 9]))
    assert step.scores.dtype == np.float32
    assert step.scores.tolist() == [[0.0, 0.25], [0.0, 0.25]]


def test_epsilon_is_asked_for_with_the_decisions_made_so_far() -> None:
    asked: list[int] = []

    def epsilon(steps: int) -> float:
        asked.append(steps)
        return 0.0

    rollout = Rollout(
        Scripted(2),
        Threshold(),
        episode_seed=lambda index: index,
        episodes=[4, 9, 2],
        policy=exploring(epsilon),
    )
    assert sum(len(step.slots) for step in rollout) == 2 + 3 + 4
    assert asked == [0, 2, 4, 6, 7, 8]
    assert rollout.steps == 9


def test_decisions_count_from_when_they_are_sent() -> None:
    rollout = Rollout(
        Scripted(2),
        Threshold(),
        episode_seed=lambda index: index,
        episodes=[4, 9, 2],
        policy=exploring(lambda steps: 0.0),
    )
    counted, received = [], 0
    while rollout.send():
        counted.append(rollout.steps)
        received += len(rollout.receive().slots)
        assert received == rollout.steps
    assert counted == [2, 4, 6, 7, 8, 9]
    assert not rollout.send()


def test_activity_is_that_of_the_environments_that_play() -> None:
    agent = NETWORKS["chen2022"].make(BREAKOUT, torch.Generator().manual_seed(0))
    for parameter in agent.parameters():
        parameter.data.mul_(5)  # untrained, it would hardly spike
    environments = make_environments(BREAKOUT, 3, STICKY)
    rollout = Rollout(
        environments,
        agent,
        episode_seed=lambda index: index,
        episodes=range(7),
        policy=exploring(lambda steps: 1.0),
    )
    sizes, spikes = set(), 0.0
    for step in rollout:
        assert step.activity is not None
        expected = agent.decide(torch.from_numpy(step.observations).float()).activity
        assert expected is not None
        assert torch.equal(step.activity.spikes, expected.spikes)
        assert (step.activity.sim_steps == 8).all()
        sizes.add(len(step.slots))
        spikes += step.activity.spikes.sum().item()
    assert {1, 3} <= sizes
    assert spikes > 0


# Every episode once ----------------------------------------------------------------------------------


@pytest.mark.parametrize("num_envs", [1, 3, 8])
def test_every_episode_is_played_once_and_to_its_end(num_envs: int) -> None:
    episodes = [12, 3, 7, 5, 0, 20, 1]
    decisions = dict.fromkeys(episodes, 0)
    over: list[int] = []
    for step in scripted_rollout(num_envs, episodes):
        assert not set(step.episodes.tolist()) & set(over)
        for episode in step.episodes.tolist():
            decisions[episode] += 1
        over += step.episodes[step.ended].tolist()
    assert sorted(over) == sorted(episodes)
    assert decisions == {episode: 2 + episode % 4 for episode in episodes}


def test_without_a_list_episodes_go_on_in_order() -> None:
    started: list[int] = []
    for step in itertools.islice(scripted_rollout(3, None), 60):
        started += step.episodes[step.starts].tolist()
    assert started == list(range(len(started)))
    assert len(started) > 40


def test_no_episode_is_no_step() -> None:
    assert list(scripted_rollout(2, [])) == []


Trace = tuple[list[int], list[float], bool]


def traces(agent: Agent, num_envs: int, epsilon: float) -> dict[int, Trace]:
    """Actions, rewards and way of ending of twelve MinAtar episodes."""
    found: dict[int, Trace] = {}
    open_traces: dict[int, tuple[list[int], list[float]]] = {}
    environments = make_environments(BREAKOUT, num_envs, Dynamics(0.1, 40))
    for step in Rollout(
        environments,
        agent,
        episode_seed=lambda index: seeding.episode_seed(0, "test", index),
        episodes=range(12),
        policy=exploring(lambda steps: epsilon),
    ):
        for row, episode in enumerate(step.episodes.tolist()):
            actions, rewards = open_traces.setdefault(episode, ([], []))
            actions.append(int(step.actions[row]))
            rewards.append(float(step.outcome.rewards[row]))
            if step.ended[row]:
                found[episode] = (actions, rewards, bool(step.outcome.truncated[row]))
    return found


@pytest.mark.parametrize(("name", "epsilon"), [("dqn", 0.3), ("random", 1.0)])
def test_the_number_of_environments_does_not_change_what_is_played(name: str, epsilon: float) -> None:
    dqn = NETWORKS["relu"].make(BREAKOUT, torch.Generator().manual_seed(1))
    agent = dqn if name == "dqn" else RandomPlay(BREAKOUT)
    alone = traces(agent, 1, epsilon)
    assert sorted(alone) == list(range(12))
    assert len({tuple(actions) for actions, _, _ in alone.values()}) == 12
    assert traces(agent, 3, epsilon) == alone
    assert traces(agent, 8, epsilon) == alone


@pytest.mark.parametrize("game_name", ["minatar/seaquest", "cartpole", "breakout"])
def test_play_touches_no_global_generator(game_name: str) -> None:
    def states() -> tuple[str, ...]:
        with np.printoptions(threshold=10_000):
            ours = repr(np.random.get_state(legacy=False))  # noqa: NPY002
        return repr(random.getstate()), ours, repr(torch.get_rng_state().tolist())

    game = GAMES[game_name]
    before = states()
    rollout = Rollout(
        make_environments(game, 1, Dynamics(0.0, 5000)),
        NETWORKS["chen2022"].make(game, torch.Generator().manual_seed(0)),
        episode_seed=lambda index: index,
        episodes=None,
        policy=exploring(lambda steps: 0.5),
    )
    for _ in range(10):
        next(rollout)
    assert states() == before


# Going on where it stopped ---------------------------------------------------------------------------

PLACES = {
    "minatar/breakout": STICKY,
    "minatar/seaquest": STICKY,
    "pong": Dynamics(0.25, 300, noop_max_frames=30, fire_on_reset=True),  # ends after 75 decisions
    "cartpole": Dynamics(0.0, 500),
}


def resumable(
    game_name: str,
    num_envs: int = 3,
    episodes: Sequence[int] | None = None,
) -> Rollout:
    game = GAMES[game_name]
    if game.tier == "minatar":
        agent: Agent = NETWORKS["relu"].make(game, torch.Generator().manual_seed(1))
    else:
        agent = RandomPlay(game)
    return Rollout(
        make_environments(game, num_envs, PLACES[game_name]),
        agent,
        episode_seed=lambda index: seeding.episode_seed(0, "test", index),
        episodes=episodes,
        policy=exploring(lambda steps: 0.5 if game.tier == "minatar" else 1.0),
    )


def assert_equal_steps(ours: Step, theirs: Step) -> None:
    for name in ("slots", "episodes", "starts", "observations", "scores", "actions", "ended"):
        assert np.array_equal(getattr(ours, name), getattr(theirs, name)), name
    for name, a, b in zip(Outcome._fields, ours.outcome, theirs.outcome, strict=True):
        assert np.array_equal(a, b), name


@pytest.mark.parametrize("game_name", list(PLACES))
def test_a_restored_rollout_goes_on_with_the_same_bits(game_name: str) -> None:
    num_envs = 2 if game_name == "pong" else 3
    rollout = resumable(game_name, num_envs)
    for _ in range(60):
        next(rollout)
    state = json.loads(json.dumps(rollout.state()))  # it travels as JSON
    rest = list(itertools.islice(rollout, 90))
    restored = resumable(game_name, num_envs)
    restored.restore(state)
    assert restored.steps == 60 * num_envs
    for step in rest:
        assert_equal_steps(next(restored), step)
    assert restored.steps == rollout.steps
    assert sum(step.ended.sum() for step in rest) > 0


@pytest.mark.parametrize("game_name", list(PLACES))
def test_between_sending_and_receiving_no_outcome_is_seen(game_name: str) -> None:
    busy, idle = resumable(game_name, 2), resumable(game_name, 2)
    for count in range(80):
        busy.send()
        if count == 20:
            time.sleep(0.05)  # the environments have long arrived
        there = busy._environments._observations.copy()  # type: ignore[attr-defined]
        step = busy.receive()
        assert_equal_steps(step, next(idle))
        assert np.array_equal(there, step.observations)


def test_a_rollout_is_restored_when_some_environments_have_nothing_left_to_play() -> None:
    rollout = resumable("minatar/breakout", 3, range(3))
    while len(next(rollout).slots) == 3:
        pass
    state = json.loads(json.dumps(rollout.state()))
    rest = list(rollout)
    restored = resumable("minatar/breakout", 3, range(3))
    restored.restore(state)
    assert len(rest) > 0
    for step in rest:
        assert_equal_steps(next(restored), step)
    with pytest.raises(StopIteration):
        next(restored)


@pytest.mark.parametrize("decisions", [0, 1])
def test_a_rollout_is_restored_at_its_very_beginning(decisions: int) -> None:
    rollout, restored = resumable("minatar/breakout"), resumable("minatar/breakout")
    for _ in range(decisions):
        next(rollout)
    restored.restore(json.loads(json.dumps(rollout.state())))
    for _ in range(20):
        assert_equal_steps(next(restored), next(rollout))


def test_a_state_does_not_change_when_play_goes_on() -> None:
    rollout = resumable("minatar/breakout")
    for _ in range(5):
        next(rollout)
    state = rollout.state()
    taken = json.dumps(state)
    next(rollout)
    assert json.dumps(state) == taken


# Attacks ---------------------------------------------------------------------------------------------


def identity(
    inputs: Tensor, scores: Tensor, generators: Sequence[np.random.Generator], previous: Tensor
) -> Perturbed:
    return Perturbed(inputs, np.full(len(inputs), np.nan), np.ones(len(inputs), dtype=bool))


def attacked(agent: Agent, game_name: str, perturb: Perturb | None, num_envs: int = 2) -> Rollout:
    return Rollout(
        make_environments(GAMES[game_name], num_envs, Dynamics(0.0, 5000)),
        agent,
        episode_seed=lambda index: seeding.episode_seed(0, "test", index),
        episodes=range(4),
        policy=exploring(lambda steps: 0.2),
        perturb=perturb,
    )


def test_an_attack_sees_network_inputs_and_clean_scores() -> None:
    agent = NETWORKS["relu"].make(GAMES["breakout"], torch.Generator().manual_seed(1))
    assert isinstance(agent, DQN)
    seen: list[tuple[Tensor, Tensor, int]] = []

    def record(
        inputs: Tensor, scores: Tensor, generators: Sequence[np.random.Generator], previous: Tensor
    ) -> Perturbed:
        seen.append((inputs.clone(), scores.clone(), len(generators)))
        return identity(inputs, scores, generators, previous)

    rollout = attacked(agent, "breakout", record)
    steps = list(itertools.islice(rollout, 8))
    for step, (inputs, scores, generators) in zip(steps, seen, strict=True):
        assert inputs.dtype == torch.float32
        assert inputs.min() == 0.0
        assert 0.5 < inputs.max() <= 1.0
        assert torch.equal(inputs, torch.from_numpy(step.observations).float() / 255)
        assert torch.equal(scores, agent(inputs).detach())
        assert not scores.requires_grad
        assert generators == 2


def test_an_attack_that_changes_nothing_flips_nothing_and_changes_no_game() -> None:
    agent = NETWORKS["relu"].make(BREAKOUT, torch.Generator().manual_seed(1))
    clean = list(attacked(agent, "minatar/breakout", None))
    under_attack = list(attacked(agent, "minatar/breakout", identity))
    assert len(clean) == len(under_attack)
    for ours, theirs in zip(under_attack, clean, strict=True):
        assert_equal_steps(ours, theirs)
        assert theirs.attack is None
        assert ours.attack is not None
        assert not ours.attack.flipped.any()
        assert (ours.attack.largest == 0).all()
        assert np.isnan(ours.attack.zero_gradient).all()


def test_an_attack_is_measured_by_what_it_did() -> None:
    def push(
        inputs: Tensor, scores: Tensor, generators: Sequence[np.random.Generator], previous: Tensor
    ) -> Perturbed:
        return Perturbed(
            inputs + torch.tensor([0.25, -0.125, 0.0, 0.0]),
            np.ones(len(inputs)),
            np.ones(len(inputs), dtype=bool),
        )

    # The first element is 0, 0.1, 0.2, 0.3 and seems 0.25 larger: above 1/8 at once, not from 0.2 on.
    steps = list(scripted_rollout(1, [2], push))
    attacks = [step.attack for step in steps if step.attack is not None]
    assert [attack.flipped.tolist() for attack in attacks] == [[True], [True], [False], [False]]
    # Position counts in units of 4.8, velocity of 3.5: 0.25 / 4.8 is more than 0.125 / 3.5.
    np.testing.assert_allclose([attack.largest for attack in attacks], 0.25 / 4.8, rtol=1e-6)
    assert [attack.zero_gradient.tolist() for attack in attacks] == [[1.0]] * 4
    assert [step.actions.tolist() for step in steps] == [[0]] * 4
    # The scores are of what the agent saw, the observations of what was there.
    np.testing.assert_allclose([step.scores[0, 0] for step in steps], [0.25, 0.35, 0.45, 0.55], rtol=1e-6)
    np.testing.assert_allclose([step.observations[0, 0] for step in steps], [0, 0.1, 0.2, 0.3], rtol=1e-6)


@pytest.mark.parametrize("change", [1e-3, -1e-3, float("nan")])
def test_an_attack_that_leaves_the_bounds_is_refused(change: float) -> None:
    def overshoot(
        inputs: Tensor, scores: Tensor, generators: Sequence[np.random.Generator], previous: Tensor
    ) -> Perturbed:
        return Perturbed(inputs + change, np.zeros(len(inputs)), np.ones(len(inputs), dtype=bool))

    with pytest.raises(Refusal, match=r"minatar/breakout: a network input of"):
        next(attacked(RandomPlay(BREAKOUT), "minatar/breakout", overshoot))


@pytest.mark.parametrize("num_envs", [1, 3])
def test_an_attack_is_told_what_it_added_before_in_the_same_episode(num_envs: int) -> None:
    """Of 12, 3, 7 and 5 decisions, the k-th of an episode adds k hundredths to what it added before."""
    told: list[list[float]] = []

    def add(
        inputs: Tensor, scores: Tensor, generators: Sequence[np.random.Generator], previous: Tensor
    ) -> Perturbed:
        told.append(previous[:, 0].tolist())
        return Perturbed(
            inputs + previous + 0.01, np.full(len(inputs), np.nan), np.ones(len(inputs), dtype=bool)
        )

    seen: dict[int, list[float]] = {}
    for step in scripted_rollout(num_envs, [12, 3, 7, 5], add):
        for episode, number in zip(step.episodes.tolist(), told[-1], strict=True):
            seen.setdefault(episode, []).append(number)
    for numbers in seen.values():
        assert numbers == pytest.approx(np.arange(len(numbers)) / 100, abs=1e-6)
    assert sorted(map(len, seen.values())) == [2, 3, 5, 5]


def test_chance_in_an_attack_is_the_episodes_own() -> None:
    def draws(num_envs: int) -> dict[int, list[float]]:
        found: dict[int, list[float]] = {}
        last: list[float] = []

        def record(
            inputs: Tensor, scores: Tensor, generators: Sequence[np.random.Generator], previous: Tensor
        ) -> Perturbed:
            last[:] = [generator.random() for generator in generators]
            return identity(inputs, scores, generators, previous)

        for step in scripted_rollout(num_envs, [12, 3, 7, 5], record):
            for episode, number in zip(step.episodes.tolist(), last, strict=True):
                found.setdefault(episode, []).append(number)
        return found

    alone = draws(1)
    assert draws(3) == alone
    assert len({number for numbers in alone.values() for number in numbers}) == 2 + 5 + 5 + 3
    # Nor is it the chance that the agent explores by.
    assert alone[12][0] != seeding.generator(12, "policy").random()


# Refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pong", "minatar/seaquest"])
def test_an_agent_of_another_games_shape_is_refused(name: str) -> None:
    # ALE waits for ever for an action that it does not have; so this must not wait for the first one.
    environments = make_environments(BREAKOUT, 1, STICKY)
    with pytest.raises(Refusal, match=name):
        Rollout(
            environments,
            RandomPlay(GAMES[name]),
            episode_seed=lambda index: index,
            episodes=None,
            policy=exploring(lambda steps: 0.0),
        )


class Counting(Threshold):
    """Scores are what it carries: the sum of the first elements it has seen since the episode began."""

    def decide(self, observations: Tensor, carry: tuple[Tensor, ...] | None = None) -> Decision:
        (before,) = (torch.zeros(len(observations)),) if carry is None else carry
        seen = before + observations[:, 0]
        return Decision(torch.stack([seen, seen], dim=1), (seen,), None)


@pytest.mark.parametrize("num_envs", [1, 3])
def test_what_an_agent_carries_ends_with_the_episode(num_envs: int) -> None:
    """Episodes of different lengths end and begin beside each other; each carries its own."""
    rollout = Rollout(
        Scripted(num_envs),
        Counting(),
        episode_seed=lambda index: index,
        episodes=range(9),
        policy=exploring(lambda steps: 0.0),
        perturb=attack_nothing,
    )
    seen: dict[int, list[float]] = {}
    for step in rollout:
        for row, episode in enumerate(step.episodes.tolist()):
            seen.setdefault(episode, []).append(float(step.scores[row, 0]))
        # Steps tell what they began with.
        (began,) = (torch.zeros(len(step.slots)),) if step.carry is None else step.carry
        assert torch.equal(
            began + torch.from_numpy(step.observations[:, 0]), torch.from_numpy(step.scores[:, 0])
        )
    for episode, carried in seen.items():
        assert carried == pytest.approx(np.cumsum(np.arange(2 + episode % 4) / 10))


def attack_nothing(
    inputs: Tensor, scores: Tensor, generators: Sequence[np.random.Generator], previous: Tensor
) -> Perturbed:
    """Clean scores that a perturbed decision equals prove that both began with the same carry."""
    assert len(scores) == len(inputs)
    return Perturbed(inputs.clone(), np.full(len(inputs), np.nan), np.ones(len(inputs), dtype=bool))

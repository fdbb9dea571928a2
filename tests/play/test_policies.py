"""Epsilon-greedy: greedy at 0, uniform at 1; draws from a softmax; and each row by its own generator."""

import numpy as np

from play.policies import categorical, epsilon_greedy, exploring


def generators(*seeds: int) -> list[np.random.Generator]:
    return [np.random.default_rng(seed) for seed in seeds]


def test_epsilon_zero_is_greedy() -> None:
    scores = np.random.default_rng(0).normal(size=(200, 6)).astype(np.float32)
    actions = epsilon_greedy(scores, 0.0, generators(*range(200)))
    assert actions.dtype == np.int64
    assert (actions == scores.argmax(1)).all()


def test_ties_go_to_the_lowest_action() -> None:
    scores = np.array([[1.0, 2.0, 2.0], [0.0, 0.0, 0.0], [-1.0, -2.0, -1.0]], dtype=np.float32)
    assert epsilon_greedy(scores, 0.0, generators(0, 1, 2)).tolist() == [1, 0, 0]


def shares(epsilon: float, decisions: int = 12_000) -> np.ndarray:
    """How often each of four actions is chosen where the last one is best."""
    rows = generators(*range(8))
    scores = np.tile(np.arange(4.0, dtype=np.float32), (8, 1))
    actions = np.concatenate([epsilon_greedy(scores, epsilon, rows) for _ in range(decisions // 8)])
    return np.bincount(actions, minlength=4) / decisions


def test_epsilon_one_is_uniform() -> None:
    # Five standard errors of a share of 1/4 over 12,000 decisions.
    np.testing.assert_allclose(shares(1.0), 1 / 4, atol=5 * (1 / 4 * 3 / 4 / 12_000) ** 0.5)


def test_epsilon_is_the_share_of_uniform_actions_the_greedy_one_among_them() -> None:
    np.testing.assert_allclose(shares(0.4), [0.1, 0.1, 0.1, 0.7], atol=0.02)


def test_exploration_of_a_row_does_not_depend_on_its_neighbours() -> None:
    scores = np.random.default_rng(0).normal(size=(300, 3, 6)).astype(np.float32)
    together, alone = generators(5, 6, 7), generators(6)
    for of_all in scores:
        actions = epsilon_greedy(of_all, 0.5, together)
        assert actions[1] == epsilon_greedy(of_all[1:2], 0.5, alone)[0]


def test_no_randomness_is_used_up_at_epsilon_zero() -> None:
    # Evaluation at epsilon 0 and at any other one must not differ before the first random action.
    (generator,) = generators(3)
    epsilon_greedy(np.zeros((1, 4), dtype=np.float32), 0.0, [generator])
    assert generator.random() == np.random.default_rng(3).random()


def test_exploring_asks_its_schedule() -> None:
    scores = np.tile(np.arange(4.0, dtype=np.float32), (500, 1))
    policy = exploring(lambda steps: steps / 100)
    assert (policy(scores, 0, generators(*range(500))) == 3).all()
    expected = epsilon_greedy(scores, 0.5, generators(*range(500)))
    assert (policy(scores, 50, generators(*range(500))) == expected).all()


def test_a_categorical_draw_has_the_softmaxs_frequencies() -> None:
    rows, draws = generators(*range(10)), 20_000
    logits = np.tile(np.log([0.5, 0.3, 0.2]).astype(np.float32) + 7.0, (10, 1))
    actions = np.concatenate([categorical(logits, 0, rows) for _ in range(draws // 10)])
    assert actions.dtype == np.int64
    found = np.bincount(actions, minlength=3) / draws
    np.testing.assert_allclose(found, [0.5, 0.3, 0.2], atol=5 * (0.25 / draws) ** 0.5)  # five standard errors


def test_a_categorical_draw_does_not_depend_on_its_neighbours() -> None:
    logits = np.random.default_rng(0).normal(size=(300, 3, 6)).astype(np.float32)
    together, alone = generators(5, 6, 7), generators(6)
    for of_all in logits:
        assert categorical(of_all, 0, together)[1] == categorical(of_all[1:2], 0, alone)[0]

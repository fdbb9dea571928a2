"""One seed, many streams: reproducible, independent, and no global generator touched."""

import random

import numpy as np
import pytest
import torch

from core import seeding
from core.errors import Refusal


def test_the_same_seed_and_stream_give_the_same_numbers() -> None:
    first, second = (seeding.generator(7, "replay").random(100) for _ in range(2))
    assert (first == second).all()
    assert (
        seeding.torch_generator(7, "weights").initial_seed()
        == seeding.torch_generator(7, "weights").initial_seed()
    )


@pytest.mark.parametrize(("seed", "stream"), [(7, "policy"), (8, "replay")])
def test_another_stream_or_seed_gives_unrelated_numbers(seed: int, stream: str) -> None:
    ours = seeding.generator(7, "replay").random(10_000)
    theirs = seeding.generator(seed, stream).random(10_000)
    assert not (ours == theirs).any()
    assert abs(np.corrcoef(ours, theirs)[0, 1]) < 0.04  # four standard errors


@pytest.mark.parametrize(("seed", "stream"), [(7, "policy"), (8, "weights")])
def test_another_stream_or_seed_gives_torch_unrelated_numbers(seed: int, stream: str) -> None:
    ours = torch.rand(10_000, generator=seeding.torch_generator(7, "weights"))
    theirs = torch.rand(10_000, generator=seeding.torch_generator(seed, stream))
    assert abs(np.corrcoef(ours, theirs)[0, 1]) < 0.04


def test_streams_are_the_same_in_every_process() -> None:
    # Pinned: a change here changes every number that was ever published from this project.
    raw = seeding.generator(0, "policy").bit_generator.random_raw(2)
    assert raw.tolist() == [6786183677190334843, 11096917040245905133]
    seeds = [seeding.episode_seed(0, "evaluation", index) for index in range(3)]
    assert seeds == [281226210, 274215664, 941719290]


def test_episode_seeds_are_a_function_of_seed_stream_and_index() -> None:
    seeds = {
        seeding.episode_seed(seed, stream, index)
        for seed in range(5)
        for stream in ("training", "evaluation")
        for index in range(100)
    }
    assert len(seeds) == 5 * 2 * 100
    assert seeding.episode_seed(3, "training", 50) == seeding.episode_seed(3, "training", 50)


def test_episode_seeds_fit_what_the_emulator_takes() -> None:
    seeds = [seeding.episode_seed(seed, "evaluation", index) for seed in (0, 2**40) for index in range(500)]
    assert min(seeds) >= 0
    assert max(seeds) < 2**31 - 1
    assert max(seeds) > 2**30  # and use the range


def test_a_negative_seed_is_refused() -> None:
    for draw in (
        seeding.generator,
        seeding.torch_generator,
        lambda s, name: seeding.episode_seed(s, name, 0),
    ):
        with pytest.raises(Refusal, match="seed is -1"):
            draw(-1, "policy")


def global_states() -> tuple[str, ...]:
    """All that a draw from a global generator would change."""
    with np.printoptions(threshold=10_000):
        ours = repr(np.random.get_state(legacy=False))  # noqa: NPY002
    return repr(random.getstate()), ours, repr(torch.get_rng_state().tolist())


def test_no_global_generator_is_touched() -> None:
    before = global_states()
    seeding.generator(1, "policy").random(5)
    torch.rand(5, generator=seeding.torch_generator(1, "weights"))
    seeding.episode_seed(1, "training", 3)
    assert global_states() == before

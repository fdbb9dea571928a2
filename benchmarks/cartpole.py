"""Speed of training on CartPole, compared with SpikingJelly's tutorials.

Ours (benchmarks/ours.py) takes turns with the tutorials' loops (benchmarks/tutorials.py), each in its own process, with
the same networks, batches and updates a decision. A tutorial runs as its user would run it, and once more on one
thread; the faster one counts.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks.report import Measurement, report
from benchmarks.turns import Round, take_turns

ROUNDS = 5


def against_tutorial(
    name: str, decisions: int, tutorial: Callable[[int], Round], ours: Callable[[], Round]
) -> Iterator[Measurement]:
    """Decisions a second of training, ours and the tutorial's, and their ratio."""
    turns = take_turns(
        {"tutorial": [partial(tutorial, 0)], "tutorial_1_thread": [partial(tutorial, 1)], "ours": [ours]},
        ROUNDS,
    )
    rates = {who: decisions / turn.seconds for who, turn in turns.items()}
    for who, rate in rates.items():
        yield f"{name}_{who}_decisions_per_s", rate, "decisions/s"
    ours_rate = rates.pop("ours")
    yield f"{name}_vs_tutorial_ratio", ours_rate / max(rates.values()), "x"


def measurements() -> Iterator[Measurement]:
    # Imported here, because the processes of contenders import this module too and should load their own code only.
    from benchmarks import ours, tutorials

    yield "cores", len(os.sched_getaffinity(0)), "cores"
    with tempfile.TemporaryDirectory() as folder:
        yield from against_tutorial(
            "spiking_dqn",
            tutorials.DQN_DECISIONS,
            tutorials.spiking_dqn,
            partial(ours.spiking_dqn, tutorials.DQN_DECISIONS, Path(folder)),
        )
    yield from against_tutorial(
        "spiking_ppo",
        tutorials.PPO_DECISIONS,
        tutorials.spiking_ppo,
        partial(ours.spiking_ppo, tutorials.PPO_DECISIONS),
    )


if __name__ == "__main__":
    report(measurements(), __doc__)

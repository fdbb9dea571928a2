"""How long stages take side by side: the order of the driver, played through without running anything. Never imports
torch."""

import heapq
from collections.abc import Mapping, Sequence

from studies.forecast import Forecast
from studies.planning import Stage


def wall_seconds(
    stages: Sequence[Stage], forecasts: Mapping[Stage, Forecast], slots: int, nodes: int = 1
) -> float | None:
    """Seconds until the last stage has ended.

    A stage starts as soon as its inputs exist and a slot is free. Trainings come first, and of them the longest.

    Args:
        stages: what is to be run. Inputs that none of them makes exist.
        forecasts: of these stages.
        slots: stages that run side by side on one node.
        nodes: number of nodes.

    Returns:
        None if the seconds of a stage are not known.
    """
    seconds: dict[Stage, float] = {}
    for stage in stages:
        known = forecasts[stage].seconds
        if known is None:
            return None
        seconds[stage] = known
    maker = {file: stage for stage in stages for file in stage.results}
    missing = {stage: {maker[need] for need in stage.needs if need in maker} for stage in stages}
    users: dict[Stage, list[Stage]] = {stage: [] for stage in stages}
    for stage, makers in missing.items():
        for each in makers:
            users[each].append(stage)
    order = {stage: number for number, stage in enumerate(stages)}

    def entry(stage: Stage) -> tuple[bool, float, int, Stage]:
        return stage.kind != "train", -seconds[stage], order[stage], stage

    ready = [entry(stage) for stage in stages if not missing[stage]]
    heapq.heapify(ready)
    running: list[tuple[float, int, Stage]] = []
    now, free = 0.0, slots * nodes
    while ready or running:
        while ready and free:
            stage = heapq.heappop(ready)[-1]
            heapq.heappush(running, (now + seconds[stage], order[stage], stage))
            free -= 1
        now, _, ended = heapq.heappop(running)
        free += 1
        for user in users[ended]:
            missing[user].discard(ended)
            if not missing[user]:
                heapq.heappush(ready, entry(user))
    return now

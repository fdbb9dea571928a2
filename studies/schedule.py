"""The order in which stages start, and how long they take side by side in it. Never imports torch."""

import heapq
from collections.abc import Mapping, Sequence

from studies.forecast import Forecast
from studies.planning import Stage


def in_order(stages: Sequence[Stage], seconds: Mapping[Stage, float]) -> list[Stage]:
    """Stages in the order in which the driver starts those that are ready.

    Trainings come first, because everything else waits for them. The longest comes first among trainings and among
    the others, then the study's order counts.

    Args:
        stages: in the study's order.
        seconds: how long each is forecast to take.
    """
    return sorted(stages, key=lambda stage: (stage.kind != "train", -seconds[stage]))


def wall_seconds(
    stages: Sequence[Stage], forecasts: Mapping[Stage, Forecast], slots: int, nodes: int = 1
) -> float | None:
    """Seconds until the last stage has ended.

    A stage starts as soon as its inputs exist and a slot is free. Of several, the first `in_order` starts.

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
    order = in_order(stages, seconds)
    place = {stage: number for number, stage in enumerate(order)}
    ready = [place[stage] for stage in order if not missing[stage]]  # sorted, so a heap
    running: list[tuple[float, int]] = []
    now, free = 0.0, slots * nodes
    while ready or running:
        while ready and free:
            number = heapq.heappop(ready)
            heapq.heappush(running, (now + seconds[order[number]], number))
            free -= 1
        now, number = heapq.heappop(running)
        free += 1
        for user in users[order[number]]:
            missing[user].discard(order[number])
            if not missing[user]:
                heapq.heappush(ready, place[user])
    return now

"""Attacks on a study in five lines, for a terminal. Never imports torch.

verdict.md has every gate, number and claim. Of several settings of attacks, the lines tell of the commonest.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from analysis.evidence import COLLAPSE_EPSILON, Evidence, Left, attacked_scores
from analysis.gates import gates, is_allowed
from analysis.statistics import LEAST_EPISODES
from analysis.words import size
from core import kinds
from core.words import count

BROKEN = 0.5
"""An agent is broken at a size where it keeps less than this share of its clean score above random play."""
TOO_FEW = f"fewer than {LEAST_EPISODES} games"
MEASURE = "spikeq card --agent AGENT --transfer ANOTHER --out FOLDER"
"""The command that measures every gate of an agent."""
STRONGER: Mapping[str, str] = {
    "plays when nobody attacks": "attack run --epsilon 0 --episodes 100",
    "white-box leads": "attack states --attack pgd --steps 20 40 --restarts 10 --best-source",
    "black-box beats noise": "attack states --attack square random-sign --set queries=2000 --draws 2000 --loss margin",
    f"collapses at {COLLAPSE_EPSILON}": f"attack run --attack pgd --epsilon 0 {COLLAPSE_EPSILON} --best-source",
    "iterations converged": "attack states --attack pgd --steps 40 80 160 --best-source",
    "gradients are there": "attack states --attack fgsm pgd --best-source",
    "rests on the best attack": "attack run --attack pgd --steps 20 --restarts 10 --best-source",
}
"""By gate, a verb of `spikeq` that may make one pass that failed: nearly always a stronger attack."""


class Group(NamedTuple):
    """The networks of one game that share a name here: training seeds of one kind."""

    name: str
    networks: Sequence[Evidence]

    @property
    def left(self) -> list[dict[float, Left]]:
        """What the strongest attack in games leaves of each network that was attacked in enough games."""
        return [left for shown in self.networks if (left := attacked_scores(shown))]

    @property
    def clean(self) -> float | None:
        """Mean clean score over the networks. None if one of them played too few games."""
        scores = [
            played.mean for shown in self.networks if len((played := shown.played[0]).rows) >= LEAST_EPISODES
        ]
        return float(np.mean(scores)) if len(scores) == len(self.networks) else None

    def score(self, epsilon: float) -> float | None:
        """Mean score over the networks under the strongest attack of a size. None if it was not measured of all."""
        scores = [left[epsilon].score.estimate for left in self.left if epsilon in left]
        return float(np.mean(scores)) if len(scores) == len(self.networks) else None

    def kept(self, epsilon: float) -> float | None:
        """Mean share that the networks keep of their clean scores above random play. None as for `score`."""
        shares = [kept.estimate for left in self.left if epsilon in left and (kept := left[epsilon].kept)]
        return float(np.mean(shares)) if len(shares) == len(self.networks) else None


def summary(everyone: Sequence[Evidence], folder: Path) -> list[str]:
    """Five lines: who was attacked, clean scores, scores at a middle size, who breaks first, what may not be claimed.

    Args:
        everyone: the evidence on each network.
        folder: the study, which holds verdict.md.
    """
    attacked = [shown for shown in everyone if shown.games or shown.states]
    usual = Counter(shown.setting for shown in attacked).most_common(1)
    attacked = [shown for shown in attacked if [shown.setting] == [setting for setting, _ in usual]]
    names = dict.fromkeys(shown.network.game for shown in attacked)
    groups = {game: _grouped([shown for shown in attacked if shown.network.game == game]) for game in names}
    return [
        f"attacked      {_by_game(groups, _names)}",
        f"clean score   {_by_game(groups, _clean)}",
        f"under attack  {_by_game(groups, _at_the_middle)}",
        f"breaks first  {_by_game(groups, _first_to_break)}",
        f"not claimed   {_not_claimed(attacked, folder)}",
    ]


def _grouped(networks: Sequence[Evidence]) -> list[Group]:
    """The networks of one game, those that differ in their training alone together."""
    found: dict[tuple[str, str, int], list[Evidence]] = defaultdict(list)
    for shown in networks:
        found[shown.network.agent, shown.network.variant, shown.network.sim_steps].append(shown)
    groups = []
    for (agent, variant, sim_steps), same in found.items():
        several = sum(key[:2] == (agent, variant) for key in found) > 1
        told = ", ".join(filter(None, (variant, f"{sim_steps} sim steps" if several else "")))
        label = kinds.label(agent, variant)
        groups.append(Group(f"{label} ({told})" if told else label, same))
    return groups


def _by_game(games: Mapping[str, Sequence[Group]], tell: Callable[[Sequence[Group]], str]) -> str:
    return "; ".join(f"{game}: {tell(groups)}" for game, groups in games.items())


def _names(groups: Sequence[Group]) -> str:
    return ", ".join(
        group.name + (f" ({len(group.networks)} networks)" if len(group.networks) > 1 else "")
        for group in groups
    )


def _clean(groups: Sequence[Group]) -> str:
    return _scores({group.name: group.clean for group in groups})


def _at_the_middle(groups: Sequence[Group]) -> str:
    sizes = _sizes(groups)
    if not sizes:
        return TOO_FEW
    middle = sizes[(len(sizes) - 1) // 2]
    return f"{_scores({group.name: group.score(middle) for group in groups})} at {size(middle)}"


def _scores(scores: Mapping[str, float | None]) -> str:
    if all(score is None for score in scores.values()):
        return TOO_FEW
    return ", ".join(f"{name} {'-' if score is None else f'{score:,.1f}'}" for name, score in scores.items())


def _first_to_break(groups: Sequence[Group]) -> str:
    for epsilon in _sizes(groups):
        kept = {group.name: share for group in groups if (share := group.kept(epsilon)) is not None}
        if kept and min(kept.values()) < BROKEN:
            name = min(kept, key=kept.__getitem__)
            return f"{name} at {size(epsilon)}, where it keeps {round(100 * kept[name])} %"
    return f"none keeps less than {100 * BROKEN:.0f} %" if _sizes(groups) else TOO_FEW


def _sizes(groups: Sequence[Group]) -> list[float]:
    """The sizes of attacks in games at which a network was measured, without that at which all must fail."""
    found = {epsilon for group in groups for left in group.left for epsilon in left}
    return sorted(epsilon for epsilon in found if epsilon < COLLAPSE_EPSILON)


def _not_claimed(shown: Sequence[Evidence], folder: Path) -> str:
    """The gate that most networks lack, and the command that measures it or may make it pass."""
    every = f"all gates: {os.path.relpath(folder / 'verdict.md')}"
    found = [gates(each) for each in shown]
    if all(map(is_allowed, found)):
        return f"nothing: every gate of {count(len(found), 'network')} passed; {every}"
    lacking = [each for each in found if not is_allowed(each)]
    outcomes = Counter(
        (gate.outcome, gate.name) for each in lacking for gate in each if gate.outcome != "pass"
    )
    # What was not measured comes first: a command closes it.
    (outcome, name), number = max(outcomes.items(), key=lambda item: (item[0][0] == "not measured", item[1]))
    told = f'robustness of {len(lacking)} of {count(len(found), "network")}: gate "{name}" '
    if outcome == "not measured":
        return f"{told}was not measured for {number}, which {MEASURE} does; {every}"
    return f"{told}failed for {number}; stronger: spikeq {STRONGER[name]} --agent AGENT --out FOLDER; {every}"

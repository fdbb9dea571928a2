"""The page of a card, and its lines on a terminal. Never imports torch."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.energy import ACCOUNTS
from analysis.pages import render
from analysis.statistics import Interval
from analysis.words import instead, score_bounds, tenths
from core.records import write_bytes


def write_page(path: Path, card: Mapping[str, Any]) -> None:
    """Write the page of a card: one file without scripts, links to the rows beside it."""
    robustness = card["robustness"]
    strongest = [] if "refused" in robustness else _strongest(robustness["states"])
    template, filters = Path(__file__).with_name("card.html.j2"), (percent, interval, percents)
    values = {"card": card, "accounts": list(ACCOUNTS.items()), "strongest": strongest}
    write_bytes(path, render(template, filters, **values))


def _strongest(states: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The attack of each kind of attacker that changes most choices, by size."""
    found: dict[tuple[float, str], Mapping[str, Any]] = {}
    for row in states:
        key = row["epsilon"], row["attacker"]
        if key not in found or row["flipped"]["estimate"] > found[key]["flipped"]["estimate"]:
            found[key] = row
    return [found[key] for key in sorted(found)]


def summary(card: Mapping[str, Any]) -> list[str]:
    """A card in five lines."""
    agent, scores, activity = card["agent"], card["scores"], card["activity"]
    lines = [f"{card['game']} {agent['label']} {agent['network']}".rstrip() + f": score {interval(scores)}"]
    if activity is not None:
        spikes = f"{activity['spikes_per_decision']:,.0f} spikes per decision"
        lines.append(f"activity: {spikes}, {activity['mean_sim_steps']:.4g} sim steps")
    operations = card["operations"]
    lines.append(
        f"operations: not measured ({operations['refused']})"
        if "refused" in operations
        else f"energy: {operations['microjoules']['first_layer_once']:.3g} µJ per decision, first layer once (estimate)"
    )
    robustness = card["robustness"]
    if "refused" in robustness:
        lines.append(f"robustness: not measured ({robustness['refused']})")
    else:
        passed = sum(gate["outcome"] == "pass" for gate in robustness["gates"])
        may = "may" if robustness["claims_allowed"] else "may not"
        lines.append(
            f"robustness: {passed} of {len(robustness['gates'])} gates pass; it {may} be called robust"
        )
    if not card["battery"]["standard"]:
        lines.append("not the standard battery: numbers of games or states were changed")
    return lines


def interval(found: Mapping[str, Any]) -> str:
    """An estimate with its interval, in words."""
    low, high = (math.nan if found[end] is None else found[end] for end in ("low", "high"))
    score = Interval(found["estimate"], low, high, found["n"])
    if instead(score):
        return f"{score.estimate:.2f} ({score_bounds(score)})"
    return f"{score.estimate:.2f} [{score.low:.2f}, {score.high:.2f}], n = {score.n}"


def percent(share: float) -> str:
    return tenths(share)


def percents(found: Mapping[str, Any]) -> str:
    """A share with its interval, in percent."""
    low, high = 100 * found["low"], 100 * found["high"]
    return f"{tenths(found['estimate'])} ({low:.1f} to {high:.1f} %, n = {found['n']})"

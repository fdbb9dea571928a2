"""One table of every network in studies and cards. Never imports torch."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis import energy
from analysis.aggregates import Interval
from analysis.evidence import evidence
from analysis.gates import Outcome, gates
from analysis.rows import ATTACKS, EPISODES, OPERATIONS, STATE_ATTACKS, StudyRows
from analysis.runs import in_order, names, prefer_best, training_runs
from analysis.shares import Kept, is_above_random, shares_kept
from analysis.statistics import mean_interval, normalised
from analysis.tables import aligned
from analysis.words import span
from card.check import is_checked
from card.files import CARD, is_of_card, read_card
from core.games import get_game


class Entry(NamedTuple):
    """One line of the table."""

    tier: str
    name: str
    sim_steps: str
    games: int
    seeds: str
    share: Interval | None
    """None without a DQN above random play."""
    microjoules: str
    """Estimated energy of a decision, account "first layer once"; a range over games and seeds."""
    verdict: str
    source: str
    checked: str


HEADER = (
    *("network", "sim steps", "games", "seeds", "share of the DQN (95 %)"),
    *("energy, µJ", "gates of robustness", "from", "checked"),
)


def leaderboard(folders: Sequence[Path]) -> str:
    """The table as Markdown, one part a tier, the largest share first.

    Raises:
        Refusal: rows of a study do not compare, or a file is damaged.
    """
    known = Known([StudyRows(study) for study in studies(folders, "*.parquet")])
    everyone = [StudyRows(study) for study in studies(folders, "episodes.parquet")]
    found: list[Entry] = []
    dqns: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
    for study in everyone:
        of_study: dict[tuple[str, str], list[float]] = defaultdict(list)
        episodes = study.frame(EPISODES)
        runs = prefer_best(training_runs(episodes))
        found += _of_study(study, runs, known)
        protocols = dict(zip(episodes.game, episodes.protocol, strict=True))
        for game, family, mean in zip(runs.game, runs.family, runs["mean"], strict=True):
            if family.agent == "dqn" and not family.untrained:
                of_study[game, protocols[game]].append(mean)
        for key, means in of_study.items():
            dqns[key].append(means)
    for path in sorted(path for folder in folders for path in folder.rglob(CARD)):
        found.append(_of_card(path, read_card(path), dqns))
    parts = [
        "# Leaderboard",
        "Made by `make leaderboard` from all studies and cards below these folders, networks of the most games first. "
        "Best weights of each training run. Intervals of studies are over training seeds, stratified by game. Those of "
        "cards are over the games of one network, with the mean score of the DQNs of the study that has most of them. "
        "Networks that were trained for less than a tenth of their recipe are left out. Gates: whether all passed that "
        "a claim about robustness needs. No line compares the robustness of two networks.",
    ]
    for tier in dict.fromkeys(entry.tier for entry in sorted(found, key=lambda each: each.tier)):
        parts += [f"## {tier}", aligned([HEADER, *map(_cells, _ordered(found, tier))]).rstrip()]
    return "\n\n".join(parts) + "\n"


def studies(folders: Sequence[Path], name: str) -> list[Path]:
    """Folders of studies: those three levels above files of that name, or pattern, that belong to no card."""
    files = [path for folder in folders for path in folder.rglob(f"*/*/{name}")]
    return sorted({path.parents[2] for path in files if not is_of_card(path.parents[1])})


def _ordered(found: Iterable[Entry], tier: str) -> list[Entry]:
    own = [entry for entry in found if entry.tier == tier]
    # Shares over different games do not compare, so networks of as many games stand together.
    return sorted(
        own, key=lambda entry: (-entry.games, -entry.share.estimate if entry.share else np.inf, entry.name)
    )


class Known:
    """What studies measured of each network besides its score, by the id of its weights."""

    def __init__(self, everyone: Sequence[StudyRows]):
        self.microjoules: dict[str, float] = {}
        """Energy of a decision, account "first layer once"."""
        self.outcomes: dict[str, set[Outcome]] = defaultdict(set)
        """Outcomes of the gates of robustness, in every setting."""
        for study in everyone:
            for layers in energy.by_agent(study.rows(OPERATIONS)):
                self.microjoules[layers[0].checkpoint_id] = energy.microjoules(layers).first_layer_once
            for shown in evidence(study.rows(STATE_ATTACKS), study.rows(ATTACKS)):
                self.outcomes[shown.network.checkpoint_id].update(gate.outcome for gate in gates(shown))


def _of_study(study: StudyRows, runs: pd.DataFrame, known: Known) -> Iterator[Entry]:
    """An entry for each family of a study and tier."""
    episodes = study.frame(EPISODES)
    shown = [family for family in in_order(runs.family) if not family.untrained and family.agent != "random"]
    labels = names(shown)
    kept = {(str(each.tier), each.family): each for each in shares_kept(episodes)}
    for family in shown:
        of_family = runs[[each == family for each in runs.family]]
        by_tier: dict[str, list[str]] = defaultdict(list)
        for game in of_family.game.unique():
            by_tier[get_game(game).tier].append(game)
        for tier, games in by_tier.items():
            own = of_family[of_family.game.isin(games)]
            counts = [own[own.game == game].train_seed.nunique() for game in games]
            yield Entry(
                tier,
                labels[family],
                str(own.sim_steps.max() or ""),
                len(games),
                span(counts, "d"),
                _share(kept.get((tier, family)), own, games),
                _range([known.microjoules[name] for name in own.checkpoint_id if name in known.microjoules]),
                _verdict(set().union(*(known.outcomes.get(name, set()) for name in own.checkpoint_id))),
                f"study {study.folders[0].name}",
                "",
            )


def _share(kept: Kept | None, own: pd.DataFrame, games: Sequence[str]) -> Interval | None:
    """The share of the DQN's score over all games of a family, which a DQN keeps in full; None if one game has none."""
    if kept is not None:
        return kept.share if set(kept.games) == set(games) else None
    is_dqn = all(family.agent == "dqn" for family in own.family)
    if not is_dqn or not all(is_above_random(game, own[own.game == game]["mean"]) for game in games):
        return None
    return Interval(1.0, 1.0, 1.0, len(own))


def _range(values: Sequence[float]) -> str:
    return span(values, ".2g") if values else ""


def _verdict(outcomes: Set[Outcome]) -> str:
    """What the gates of all networks of a line say together."""
    if "fail" in outcomes:
        return "gates failed"
    if "pass" in outcomes:
        return "not all measured" if "not measured" in outcomes else "gates passed"
    return "not measured"


def _of_card(path: Path, card: Mapping[str, Any], dqns: Mapping[tuple[str, str], list[list[float]]]) -> Entry:
    agent, scores, activity, robustness = (
        card[name] for name in ("agent", "scores", "activity", "robustness")
    )
    game = get_game(card["game"])
    others = max(dqns.get((game.name, card["protocol"]["name"]), [[]]), key=len)
    share = None
    if scores["random_play"] is not None and others and np.mean(others) > scores["random_play"]:
        own = [episode["score"] for episode in scores["episodes"]]
        share = mean_interval(normalised(own, scores["random_play"], float(np.mean(others))))
    checked = is_checked(path)
    standard = "" if card["battery"]["standard"] else ", not the standard battery"
    seed = f"seed {agent['train_seed']}" if agent["train_seed"] >= 0 else ""
    told = ", ".join(filter(None, (agent["recipe"] or agent["network"], agent["method"], seed)))
    named = f"{agent['label']} ({told})" if told else agent["label"]
    return Entry(
        game.tier,
        f"{named} on {game.name}",
        f"{activity['sim_steps']}" if activity else "",
        1,
        "1",
        share,
        ""
        if "refused" in card["operations"]
        else f"{card['operations']['microjoules']['first_layer_once']:.2g}",
        _verdict({gate["outcome"] for gate in robustness.get("gates", ())}),
        f"card {path.parent.name}{standard}",
        f"{checked} games again" if checked else "",
    )


def _cells(entry: Entry) -> tuple[str, ...]:
    share = ""
    if entry.share is not None:
        share = f"{100 * entry.share.estimate:.0f} %"
        if entry.share.low < entry.share.high:
            share += f" ({100 * entry.share.low:.0f} to {100 * entry.share.high:.0f})"
    return (
        *(entry.name, entry.sim_steps, str(entry.games), entry.seeds, share),
        *(entry.microjoules, entry.verdict, entry.source, entry.checked),
    )

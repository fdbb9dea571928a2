"""python -m adversarial verdict: what a study's attacks allow to be said, and what stands in the way. Never imports
torch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from analysis.attackers import described, flips, masking_gaps
from analysis.comparisons import Contrast, RobustnessComparison, compare
from analysis.evidence import Evidence, attacked_scores, evidence
from analysis.gates import Gate, gates, is_allowed
from analysis.players import Player, dqns_of, players
from analysis.tables import aligned
from analysis.words import percent, points, scored, signed, size
from core.cli import main
from core.errors import Refusal
from core.records import read_rows, write_bytes
from core.rows import AttackRow, StateAttackRow


@dataclass(frozen=True)
class Verdict:
    """Print, for each game and agent, the gates of robustness and the claim that they allow (STUDY/verdict.md).

    Only rows are read: attacks.parquet (games under attack, clean ones among them) and state_attacks.parquet (stored
    states), wherever they lie below the folder.
    """

    study: Annotated[Path, tyro.conf.Positional]
    """Folder of a study, as in results/quick."""

    def run(self) -> None:
        states = [
            row
            for path in sorted(self.study.rglob("state_attacks.parquet"))
            for row in read_rows(path, StateAttackRow)
        ]
        games = [
            row for path in sorted(self.study.rglob("attacks.parquet")) for row in read_rows(path, AttackRow)
        ]
        if not states and not games:
            raise Refusal(
                f"no attacks under {self.study}: a folder with attacks.parquet or state_attacks.parquet below it is "
                "needed"
            )
        text = verdict(states, games)
        write_bytes(self.study / "verdict.md", text.encode())
        print(text, end="")


def verdict(states: Sequence[StateAttackRow], games: Sequence[AttackRow]) -> str:
    """Gates, numbers and claims of every network that was attacked, as Markdown.

    Raises:
        Refusal: as `analysis.evidence.evidence`.
    """
    everyone = evidence(states, games)
    parts = [
        "# What these attacks allow to be said",
        "A gate that does not pass forbids every claim of robustness. The strongest attack is the one that flips most "
        "decisions. A masking gap is what the best attack flips beyond FGSM along the gradient that trained the agent.",
    ]
    for game in sorted({shown.network.game for shown in everyone}):
        parts.append(f"## {game}")
        here = [shown for shown in everyone if shown.network.game == game]
        for shown in here:
            parts += _of_network(shown, here)
    parts.append(
        "Intervals (95 %) are over the episodes or states of one network, not over training seeds. A claim is about "
        "these networks, episodes, states, sizes and attacks, not about a method."
    )
    return "\n\n".join(parts) + "\n"


def opponents(shown: Evidence, everyone: Sequence[Evidence]) -> list[Evidence]:
    """Whom a network is held against in the same setting: the DQNs of `analysis.players.dqns_of`; a DQN those that are
    held against it. None without clean games, which tell a network's recipe.
    """
    here = [each for each in everyone if each.setting == shown.setting and each.clean]
    if shown not in here:
        return []
    known: dict[int, Player] = {id(each): players(each.clean)[0] for each in here}
    dqns = [known[id(each)] for each in here if each.network.agent == "dqn"]
    own = known[id(shown)]
    if shown.network.agent == "dqn":
        return [
            each
            for each in here
            if each.network.agent != "dqn" and any(dqn is own for dqn in dqns_of(known[id(each)], dqns))
        ]
    against = dqns_of(own, dqns)
    return [each for each in here if any(known[id(each)] is dqn for dqn in against)]


def claims(
    shown: Evidence, found: Sequence[Gate], comparisons: Sequence[RobustnessComparison]
) -> Iterator[str]:
    """The sentences that the evidence allows on one network, and those that it refuses, each with the reason."""
    if is_allowed(found):
        kept = [
            f"{percent(left.kept)} at {size(epsilon)}"
            for epsilon, left in attacked_scores(shown).items()
            if epsilon in shown.sizes and left.kept is not None
        ]
        yield (
            "Claim: every gate passed. The strongest attack left of its clean score above random play: "
            f"{', '.join(kept)}."
        )
    else:
        blocking = "; ".join(
            f'gate "{gate.name}" {"failed" if gate.outcome == "fail" else "was not measured"}'
            for gate in found
            if gate.outcome != "pass"
        )
        yield f"No claim of robustness: {blocking}."
    for comparison in comparisons:
        claim = f'"more robust than the {comparison.other.name}"'
        if not is_allowed(found):
            yield f"Refused: {claim}: not every gate passed."
        elif comparison.refused:
            yield f"Refused: {claim}: {comparison.refused}."
        else:
            yield from _compared(claim, comparison.contrasts)


def _compared(claim: str, contrasts: Sequence[Contrast]) -> Iterator[str]:
    better = [each for each in contrasts if each.is_better]
    if better:
        yield f"Allowed: {claim} at {'; at '.join(map(_contrast, better))}."
    if others := [each for each in contrasts if not each.is_better]:
        yield f"Not shown: {claim} at {'; at '.join(map(_contrast, others))}."


def _contrast(each: Contrast) -> str:
    numbers = (
        f"of its own clean score {points(each.kept_difference)} are left beside the other's; its score differs by "
        f"{signed(each.score_difference)}; of the same states {percent(each.flips)} flip, of the other's "
        f"{percent(each.others_flips)}"
    )
    if each.not_under and each.is_better_under_the_strongest:
        numbers += f"; not so under {each.not_under}"
    return f"{size(each.epsilon)} ({numbers})"


def _of_network(shown: Evidence, everyone: Sequence[Evidence]) -> Iterator[str]:
    yield f"### {shown.network.name}"
    if shown.setting != "{}":
        yield f"Setting: `{shown.setting}`"
    found = gates(shown)
    yield _table([("gate", "", "measured"), *((gate.name, gate.outcome, gate.numbers) for gate in found)])
    scores = [
        (
            size(epsilon),
            left.attack,
            str(left.attacks),
            scored(left.score),
            percent(left.kept) if left.kept else "",
            f"{left.least:,.2f}",
        )
        for epsilon, left in attacked_scores(shown).items()
    ]
    if scores:
        header: tuple[str, ...] = (
            "epsilon",
            "strongest attack in games",
            "of",
            "score",
            "left of its clean score",
            "lowest mean of them all",
        )
        yield _table([header, *scores])
    gaps = [
        (
            *(size(gap.epsilon), described(gap.best), percent(gap.flips)),
            *(described(gap.usual), percent(gap.usual_flips), points(gap.gap)),
            f"{percent(flips(gap.iterated))} by {described(gap.iterated)}",
        )
        for gap in masking_gaps(shown.states)
    ]
    if gaps:
        header = (
            "epsilon",
            "best attack on states",
            "flips",
            "usual attack",
            "flips",
            "masking gap",
            "most along the same gradient as the usual one",
        )
        yield _table([header, *gaps])
    comparisons = [compare(shown, other) for other in opponents(shown, everyone)]
    yield "\n".join(f"- {sentence}" for sentence in claims(shown, found, comparisons))


def _table(cells: Sequence[tuple[str, ...]]) -> str:
    return aligned(cells).rstrip("\n")


if __name__ == "__main__":
    main("python -m analysis.verdict", Verdict)

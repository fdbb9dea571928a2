"""python -m adversarial verdict: the gates of robustness and the claims that a study allows. Never imports torch."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from analysis.attack_summary import summary
from analysis.attackers import described, flips, masking_gaps
from analysis.comparisons import Contrast, RobustnessComparison, compare
from analysis.evidence import Evidence, attacked_scores, evidence
from analysis.gates import Gate, gates, is_allowed
from analysis.players import Player, dqns_of, players
from analysis.rows import ATTACKS, STATE_ATTACKS, StudyRows
from analysis.tables import aligned
from analysis.words import percent, points, scored, signed, size
from core.errors import Refusal
from core.generated import require_as_made, write_generated


def verdict_of(folder: Path) -> list[str]:
    """Write the verdict on all attacks below a folder, FOLDER/verdict.md.

    Returns:
        Five lines that sum it up (`analysis.attack_summary`).

    Raises:
        Refusal: there are no attacks, or as in `analysis.evidence.evidence`.
    """
    require_as_made(folder / "verdict.md")  # before the work
    study = StudyRows(folder)
    states, games = study.rows(STATE_ATTACKS), study.rows(ATTACKS)
    if not states and not games:
        raise Refusal(
            f"no attacks under {folder}: name a folder with attacks.parquet or state_attacks.parquet below it"
        )
    everyone = evidence(states, games)
    write_generated(folder / "verdict.md", verdict(everyone).encode())
    return summary(everyone, folder)


def verdict(everyone: Sequence[Evidence]) -> str:
    """Gates, numbers and claims of every attacked network, as Markdown.

    Args:
        everyone: the evidence on each network.
    """
    parts = [
        "# Robustness: gates and claims",
        "A gate that does not pass forbids every claim of robustness. The strongest attack is the one that flips most "
        "decisions. The masking gap is how much more the best attack flips than FGSM along the gradient that trained "
        "the agent (the usual attack).",
    ]
    for game in sorted({shown.network.game for shown in everyone}):
        parts.append(f"## {game}")
        here = [shown for shown in everyone if shown.network.game == game]
        for shown in here:
            parts += _of_network(shown, here)
    parts.append(
        "Intervals (95 %) are over the episodes or states of one network, not over training seeds. Claims hold for "
        "these networks, episodes, states, sizes and attacks, not for a method in general."
    )
    return "\n\n".join(parts) + "\n"


def opponents(shown: Evidence, everyone: Sequence[Evidence]) -> list[Evidence]:
    """The networks that a network is compared with, in the same setting.

    For a DQN they are all networks that are compared with it, for another network the DQNs of
    `analysis.players.dqns_of`. Without clean games the list is empty, because only they hold the recipe.
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
    """One line for each claim about a network that the evidence allows or refuses, with a short reason."""
    if is_allowed(found):
        kept = [
            f"{percent(left.kept)} at {size(epsilon)}"
            for epsilon, left in attacked_scores(shown).items()
            if epsilon in shown.sizes and left.kept is not None
        ]
        yield (
            "Claim: every gate passed. Share of the clean score above random play kept under the strongest attack: "
            f"{', '.join(kept)}."
        )
    else:
        first, *others = (gate for gate in found if gate.outcome != "pass")
        outcome = "failed" if first.outcome == "fail" else "was not measured"
        more = f", and {len(others)} more did not pass" if others else ""
        yield f'No claim of robustness: gate "{first.name}" {outcome}{more}.'
    for comparison in comparisons:
        claim = f'"more robust than the {comparison.other.name}"'
        if not is_allowed(found):
            yield f"Refused: {claim}, see the gates."
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
        f"difference in kept share {points(each.kept_difference)}; difference in score "
        f"{signed(each.score_difference)}; states flipped {percent(each.flips)}, of the other network "
        f"{percent(each.others_flips)}"
    )
    if each.not_under and each.is_better_under_the_strongest:
        numbers += f"; not better under {each.not_under}"
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
            "attacks",
            "score",
            "kept of its clean score",
            "lowest mean score under any",
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
            "best along the training gradient",
        )
        yield _table([header, *gaps])
    comparisons = [compare(shown, other) for other in opponents(shown, everyone)]
    yield "\n".join(f"- {sentence}" for sentence in claims(shown, found, comparisons))


def _table(cells: Sequence[tuple[str, ...]]) -> str:
    return aligned(cells).rstrip("\n")

"""Format shares, sizes, scores and ranges for sentences. Never imports torch."""

from collections.abc import Iterable, Sequence
from fractions import Fraction

from analysis.statistics import Interval
from core.words import count


def instead(found: Interval) -> str:
    """What is said in place of an interval: that there are too few values, or that all are equal. Otherwise empty."""
    if not found.is_given:
        return f"n = {found.n}, too few for an interval"
    return f"the same in all {found.n} games" if found.is_tied else ""


def score_bounds(score: Interval) -> str:
    """The interval of a score, as in "15.13 to 16.80" or "all 30 games scored 9"."""
    if score.is_given and score.is_tied:
        return f"all {score.n} games scored {score.estimate:,.10g}"
    return instead(score) or f"{score.low:,.2f} to {score.high:,.2f}"


def percent(share: Interval) -> str:
    """A share, as in "58 % (49 to 69 %, n = 100)"."""
    found = instead(share)
    if not found:
        found = f"{round(100 * share.low)} to {round(100 * share.high)} %, n = {share.n}"
    return f"{round(100 * share.estimate)} % ({found})"


def tenths(share: float) -> str:
    """A share without an interval, as in "29.6 %"."""
    return f"{100 * share:.1f} %"


def size(epsilon: float) -> str:
    """The size of a perturbation: "1/255" for a whole number of grey levels, otherwise a decimal number."""
    levels = Fraction(epsilon).limit_denominator(255) * 255
    return (
        f"{levels}/255" if levels.denominator == 1 and abs(levels / 255 - epsilon) < 1e-9 else f"{epsilon:g}"
    )


def scored(score: Interval) -> str:
    """A score, as in "16.00 (15.13 to 16.80, n = 30)"."""
    n = "" if instead(score) else f", n = {score.n}"
    return f"{score.estimate:,.2f} ({score_bounds(score)}{n})"


def percents(shares: Sequence[Interval]) -> str:
    """The smallest and the largest of some shares, as in "49 to 69 %"."""
    return f"{span((round(100 * share.estimate) for share in shares), 'd')} %"


def span(values: Iterable[float], form: str) -> str:
    """The smallest and the largest of several numbers, or one number if both look the same."""
    ordered = sorted(values)
    low, high = f"{ordered[0]:{form}}", f"{ordered[-1]:{form}}"
    return low if low == high else f"{low} to {high}"


def points(difference: Interval) -> str:
    """A difference of shares, as in "+12.0 points (+3.1 to +20.4, n = 512)"."""
    estimate, low, high = (100 * value for value in difference[:3])
    return (
        f"{estimate:+.1f} points ({instead(difference) or f'{low:+.1f} to {high:+.1f}, n = {difference.n}'})"
    )


def signed(difference: Interval) -> str:
    """A difference of scores, as in "+1.50 (-0.20 to +3.10, n = 30)"."""
    found = f"{difference.low:+,.2f} to {difference.high:+,.2f}, n = {difference.n}"
    return f"{difference.estimate:+,.2f} ({instead(difference) or found})"


def comparisons_made(differences: Sequence[Interval]) -> str:
    """How many comparisons were made, how many of them have an interval, and how many are significant."""
    made, found = len(differences), sum(each.excludes_zero for each in differences)
    known = sum(each.is_given for each in differences)
    return (
        f"{count(made, 'comparison')} {'was' if made == 1 else 'were'} made. {known} {'has' if known == 1 else 'have'} "
        f"seeds enough for an interval, and {found} of these {'excludes' if found == 1 else 'exclude'} 0.\n"
        "Of intervals between equal networks, about one in twenty would."
    )


def significant(difference: Interval) -> str:
    """Whether a difference is significant, for a cell: "yes", "no", "tied", or nothing without an interval."""
    if not difference.is_given:
        return ""
    return "tied" if difference.is_tied else "yes" if difference.excludes_zero else "no"

"""Words of messages: counts, commands, and the name that was meant. Never imports torch."""

import shlex
from collections.abc import Iterable, Sequence

VERB_OF_MODULE = {"train_direct": "train", "adversarial": "attack"}
"""Verbs of `spikeq` whose module has another name."""


def count(number: int, what: str) -> str:
    """A number of things, as in "1 network" or "2 networks"."""
    return f"{number} {what}" + ("" if number == 1 else "s")


def command_line(words: Sequence[str]) -> str:
    """A command as users type it.

    Args:
        words: its module, as after `python -m`, and its arguments. Manifests and stages of studies hold these.
    """
    module, *others = words
    return shlex.join(["spikeq", VERB_OF_MODULE.get(module, module), *others])


def nearest(name: object, accepted: Iterable[str]) -> str:
    """The words that suggest the accepted name nearest to one that is not; empty if none is near.

    Near is what a slip of the fingers makes of it: one edit in each four letters of its last part, or one. So the game
    of minatar/brekout is minatar/breakout, and that of minatar/tetris is none.
    """
    given = str(name)

    def edits(other: str) -> tuple[int, int]:
        last, other_last = (each.rpartition("/")[2].lstrip("-") for each in (given, other))
        return _edits(last, other_last), _edits(given, other)

    near = min(accepted, key=edits, default="")
    allowed = max(1, len(given.rpartition("/")[2]) // 4)
    return f"did you mean {near!r}? " if near and edits(near)[0] <= allowed else ""


def _edits(one: str, other: str) -> int:
    """Letters to insert, remove, replace or swap with the next, to make one word of another."""
    before: list[int] = []
    above = [*range(len(other) + 1)]
    for i, letter in enumerate(one[:100], 1):
        row = [i]
        for j, wanted in enumerate(other, 1):
            least = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (letter != wanted))
            if i > 1 and j > 1 and one[i - 2] == wanted and letter == other[j - 2]:
                least = min(least, before[j - 2] + 1)
            row.append(least)
        before, above = above, row
    return above[-1]

"""spikeq VERB ...: every command of SpikeQ under one name. `spikeq train dqn` is `python -m train_direct dqn`."""

from core import interrupts

if __name__ == "__main__":
    interrupts.answer()  # before other imports

import runpy
import sys
from collections.abc import Mapping
from typing import NamedTuple


class Verb(NamedTuple):
    """A verb of the command `spikeq`."""

    module: str
    """The module that is run as with `python -m`."""
    does: str
    """What it does, for the list of verbs."""


VERBS: Mapping[str, Verb] = {
    "train": Verb("train_direct", "train a DQN, a DSQN or PPO; make the small copy of a trained agent"),
    "convert": Verb("convert", "convert a DQN, compare methods, import and export networks"),
    "evaluate": Verb("evaluate", "score, watch and probe agents; check rows"),
    "attack": Verb("adversarial", "attack agents in games and on states; judge what that shows"),
    "reproduce": Verb("reproduce", "run a study"),
    "plot": Verb("plot", "draw the figures and write the tables of folders of rows"),
    "report": Verb("analysis.report", "write the page of a folder of rows"),
    "card": Verb("card", "measure one agent with the standard battery, or check a card"),
    "leaderboard": Verb("card.leaderboard", "write the table of all studies and cards"),
}


def usage() -> str:
    """What can be typed."""
    width = max(map(len, VERBS))
    lines = [f"  {name:<{width}}  {verb.does}" for name, verb in VERBS.items()]
    return "\n".join(
        [
            "usage: spikeq VERB ... [--extension MODULE]",
            "",
            *lines,
            "",
            "spikeq VERB --help lists the options of a verb. --extension imports a module of your own, which "
            "registers what it adds.",
        ]
    )


def main() -> None:
    """Run a verb, as `python -m` would run its module."""
    interrupts.answer()
    verb, *rest = sys.argv[1:] or ["--help"]
    if verb in ("--help", "-h", "help"):
        print(usage())
        return
    if verb not in VERBS:
        from core.words import nearest

        print(
            f"error: spikeq: no verb {verb!r}: {nearest(verb, VERBS)}verbs are {', '.join(VERBS)}",
            file=sys.stderr,
        )
        sys.exit(2)
    from core.cli import call_it

    call_it(f"{'python -m spikeq' if sys.argv[0].endswith('__main__.py') else 'spikeq'} {verb}")
    sys.argv[1:] = rest
    runpy.run_module(VERBS[verb].module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

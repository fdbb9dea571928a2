"""python -m adversarial run | states | verdict: attack agents in their games and on stored states, and judge."""

from core import interrupts

if __name__ == "__main__":
    interrupts.answer()  # before imports that take seconds

from adversarial.options import Run, States, Verdict
from core.cli import main

if __name__ == "__main__":
    main(
        "python -m adversarial",
        {"run": Run, "states": States, "verdict": Verdict},
        "Attack agents, say by whose gradient, and judge which claims the attacks allow.",
    )

"""python -m convert run | compare | import | export: from a trained DQN to a spiking network."""

from core import interrupts

if __name__ == "__main__":
    interrupts.answer()  # before imports that take seconds

from convert.options import Compare, Export, Import, Run
from core.cli import main

if __name__ == "__main__":
    main(
        "python -m convert",
        {"run": Run, "compare": Compare, "import": Import, "export": Export},
        "Turn a trained DQN, of this project or of another, into a spiking network. Of the methods, only qcfs, "
        "exact and hybrid train: they distil.",
    )

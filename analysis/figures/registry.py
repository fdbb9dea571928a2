"""The registry of figures. Never imports torch.

A figure is a function from rows to a Matplotlib figure, or to several with an ending of the name for each. Built-in
figures and extensions register in the same way:

    @FIGURES.register("my_figure")
    @draws(EPISODES)
    def my_figure(rows: pd.DataFrame) -> Figure:
        \"\"\"The caption.\"\"\"
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import pandas as pd
from matplotlib.figure import Figure

from analysis.figures.style import NothingToDraw
from analysis.rows import RowFiles, StudyRows
from core.errors import Refusal, failure
from core.registry import Registry

LAST = 1000
"""Position of a figure that names none."""

Section = Literal["scores", "learning", "conversion", "robustness", "cost", "neurons", "more"]
"""Part of a study's page."""
SECTIONS: tuple[Section, ...] = get_args(Section)
"""All parts, in the order of the argument."""


@dataclass(frozen=True)
class StudyFigure:
    """A drawing function and the rows that it needs. Calling it calls the function."""

    draw: Callable[..., Figure | Iterator[tuple[str, Figure]]]
    """Takes a data frame for each entry of `rows`."""
    rows: tuple[RowFiles, ...]
    position: int
    """Figures are drawn and listed in order of their position, then by name."""
    section: Section = "more"
    """The part of a study's page in which the figure stands."""

    def __call__(self, *frames: pd.DataFrame) -> dict[str, Figure]:
        """The figures by the ending of their names; a single figure has none."""
        made = self.draw(*frames)
        return {"": made} if isinstance(made, Figure) else dict(made)

    def of_study(self, study: StudyRows) -> dict[str, Figure]:
        """Draw the rows of a study.

        Raises:
            NothingToDraw: the study lacks rows that the figure needs. The message names the command that makes them.
            Refusal: the rows do not compare, or lack what the figure needs of them.
        """
        for files in self.rows:
            if not study.rows(files):
                raise NothingToDraw(f"no rows ({files.pattern}); {files.made_by} makes them")
        try:
            return self(*map(study.frame, self.rows))
        except (NothingToDraw, Refusal):
            raise
        except (LookupError, ValueError, TypeError, ArithmeticError) as error:
            raise Refusal(f"these rows cannot be drawn: {failure(error)}") from error

    @property
    def caption(self) -> str:
        """The first paragraph of the drawing function's docstring."""
        return " ".join((self.draw.__doc__ or "").split("\n\n")[0].split())


def draws(
    *rows: RowFiles, section: Section = "more", position: int = LAST
) -> Callable[[Callable[..., Figure | Iterator[tuple[str, Figure]]]], StudyFigure]:
    """Decorator that turns a drawing function into a figure that can be registered.

    Args:
        rows: the rows that the function takes, as a data frame each.
        section: see `StudyFigure`.
        position: see `StudyFigure`.
    """
    return lambda draw: StudyFigure(draw, rows, position, section)


FIGURES: Registry[StudyFigure] = Registry("figure", package="analysis.figures")
"""All figures by name."""


def in_order() -> list[tuple[str, StudyFigure]]:
    """All figures in the order in which they are drawn and listed."""
    return sorted(FIGURES.items(), key=lambda item: (item[1].position, item[0]))

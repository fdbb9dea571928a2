"""Pages from templates. Never imports torch."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jinja2


def render(template: Path, filters: Sequence[Callable[..., Any]], **values: Any) -> bytes:
    """A page from a Jinja template. Values are escaped, and a missing one is an error.

    Args:
        template: its file.
        filters: functions that the template applies to values, by their names.
        values: what the template shows.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update({function.__name__: function for function in filters})
    page = environment.get_template(template.name).render(values)
    # Names of folders may not be UTF-8.
    return page.encode(errors="backslashreplace")

"""A format of foreign files in one file: an extension that tests load."""

from convert.foreign import FORMATS, Format, Layout

FORMATS.register("own-format")(
    Format("files of a code of one's own", (Layout(("a", "b", "q"), tier="control", any_width=True),))
)

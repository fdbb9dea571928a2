"""Where the pictures of `evaluate watch` go: a window on the screen, or a folder of files."""

import os
import time
from pathlib import Path
from types import TracebackType

from PIL import Image

from core.errors import Refusal, naming
from evaluate.watch import Enough


class Pictures:
    """A folder of PNG files, one for each decision: 000001.png, 000002.png, ...

    Args:
        folder: a new or empty folder.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._number = 0

    def write(self, image: Image.Image) -> None:
        """Add a file."""
        self._number += 1
        file = self._folder / f"{self._number:06}.png"
        with naming(file):
            image.save(file)


class Window:
    """A window that shows pictures at the pace of the game. Space pauses; Escape, q or closing it ends the show.

    It is a context manager: leaving it closes the window.

    Args:
        title: its title.
        frames_per_second: pictures a second, at most.

    Raises:
        Refusal: there is no screen, or Python has no Tk.
    """

    def __init__(self, title: str, frames_per_second: int):
        instead = "give --save FILE.mp4 or --save FOLDER to look at it later"
        try:
            import tkinter

            from PIL import ImageTk
        except ImportError as error:  # Tk is a package of its own on some systems
            raise Refusal(f"this Python opens no windows ({error}): {instead}")
        try:
            self._root = tkinter.Tk()
        except tkinter.TclError as error:
            raise Refusal(f"no screen to open a window on ({error}): {instead}")
        self._interval_s = 1 / frames_per_second
        self._due_s = 0.0
        self._paused = False
        self.closed = False
        """Whether the user closed it."""
        self._title = title
        self._label = tkinter.Label(self._root, borderwidth=0)
        self._label.pack()
        self._new_photo = ImageTk.PhotoImage
        self._photo: ImageTk.PhotoImage | None = None
        self._root.title(title)
        self._root.resizable(False, False)
        self._root.protocol("WM_DELETE_WINDOW", self._close)
        for key in ("<Escape>", "q"):
            self._root.bind(key, lambda event: self._close())
        self._root.bind("<space>", lambda event: self._pause())

    def _close(self) -> None:
        self.closed = True

    def _pause(self) -> None:
        self._paused = not self._paused
        self._root.title(f"{self._title} (paused)" if self._paused else self._title)

    def show(self, image: Image.Image) -> None:
        """Show a picture, after the one before it had its time.

        Raises:
            Enough: the window was closed.
        """
        while not self.closed and (self._paused or time.monotonic() < self._due_s):
            self._wait()
        if self.closed:
            raise Enough
        fitting = self._fitted(image)
        if self._photo is None:
            self._photo = self._new_photo(fitting, master=self._root)
            self._label.configure(image=self._photo)
        else:
            self._photo.paste(fitting)
        self._root.update()
        self._due_s = time.monotonic() + self._interval_s

    def hold(self) -> None:
        """Keep the last picture until the window is closed."""
        self._root.title(f"{self._title} (over)")
        while not self.closed:
            self._wait()

    def _wait(self) -> None:
        self._root.update()
        time.sleep(0.005)

    def _fitted(self, image: Image.Image) -> Image.Image:
        """The picture, made smaller if the screen is smaller."""
        screen = self._root.winfo_screenwidth(), self._root.winfo_screenheight()
        share = min(1.0, *(theirs / ours for theirs, ours in zip(screen, image.size, strict=True)))
        if share == 1.0:
            return image
        size = int(share * image.width), int(share * image.height)
        return image.resize(size, Image.Resampling.LANCZOS)

    def __enter__(self) -> "Window":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._root.destroy()

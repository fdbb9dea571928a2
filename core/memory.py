"""Memory that is available, and the refusal of work that does not fit. Never imports torch."""

import os
import re
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

from core.errors import Refusal

SHARE = 0.9
"""Share of the available memory that one piece of work may be forecast to take."""
GIB = 2**30


def available_bytes() -> int:
    """Memory that new work can use, in bytes. On Linux it includes the file cache; elsewhere it is the free memory."""
    try:
        found = {
            line.partition(":")[0]: line for line in Path("/proc/meminfo").read_text("utf-8").splitlines()
        }
        available = 1024 * int(found["MemAvailable"].split()[1])
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(0, min([available, _left_to_this_process(), *_left_in_groups()]))


def _left_to_this_process() -> int:
    """What is left of the address space that `ulimit -v` grants."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return sys.maxsize
    pages = int(Path("/proc/self/statm").read_text("utf-8").split()[0])
    return limit - pages * resource.getpagesize()


def _left_in_groups() -> Iterator[int]:
    """What is left of the limits of each control group that we are in, as in a container.

    The file cache counts as left. Version 2 has one tree of groups, version 1 one for memory. In a container, the
    group's own folder may be the root.
    """
    try:
        lines = Path("/proc/self/cgroup").read_text("utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            root, limit, usage = Path("/sys/fs/cgroup"), "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            root, limit, usage = (
                Path("/sys/fs/cgroup/memory"),
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
            )
        else:
            continue
        own = root / group.lstrip("/")
        for folder in (own, *own.parents):
            if folder.is_relative_to(root):
                try:
                    # "max" is no limit. Version 1 shows a number beyond any memory.
                    most, used = (int((folder / name).read_text("utf-8")) for name in (limit, usage))
                    stat = dict(
                        line.split() for line in (folder / "memory.stat").read_text("utf-8").splitlines()
                    )
                    files = sum(int(stat.get(name, 0)) for name in ("inactive_file", "active_file"))
                except (OSError, ValueError):
                    continue
                yield most - used + files


def gib(size: float) -> str:
    """A number of bytes in GiB, in words."""
    return f"{size / GIB:,.1f} GiB"


_TOLD = re.compile("would take .* of memory, and .* can be used: ")


def is_lack(refusal: str) -> bool:
    """Whether a message is one of `require_fits`: with more memory, the same work would not be refused."""
    return _TOLD.search(refusal) is not None


def require_fits(name: str, value: int, needed: float, what: str) -> None:
    """Refuse work whose forecast does not fit into the available memory.

    Args:
        name: of the option that decides how much is needed, or of the field of an agent's file.
        value: its value. What is needed grows in proportion to it.
        needed: forecast, in bytes.
        what: what needs it, as in "its states".

    Raises:
        Refusal: the message has a value that would fit.
    """
    room = SHARE * available_bytes()
    if needed > room:
        fitting = int(value * room / needed)
        told = f"about {fitting:,} would fit" if fitting else "not even 1 would fit"
        raise Refusal(
            f"{name} is {value}: {what} would take {gib(needed)} of memory, and {gib(room)} can be used: {told}"
        )

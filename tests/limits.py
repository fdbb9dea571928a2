"""Commands with a limit of memory. Never imports torch."""

import sys


def limited(most_bytes: int, *words: str) -> list[str]:
    """A command line that runs Python with some words and as much memory as the system grants it."""
    limit = (
        f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_AS, ({most_bytes}, {most_bytes})); "
    )
    return [sys.executable, "-c", f"{limit}os.execv(sys.executable, [sys.executable, *sys.argv[1:]])", *words]

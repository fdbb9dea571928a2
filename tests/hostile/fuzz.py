"""python -m tests.hostile.fuzz: mutate files, read each as a command does, and count what goes wrong.

A worker process reads them. It has a limit of memory, and is watched from outside, so that a hang or a file that takes
gigabytes is counted and not suffered. The same seed gives the same mutations.
"""

import argparse
import contextlib
import hashlib
import multiprocessing
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import torch

from core.errors import Refusal
from tests.hostile.targets import Target, quietly, targets

MOST_BYTES = 2 * 2**30
"""Memory that reading one file may take, besides what the process has."""
MOST_RESIDENT_KIB = 2**20
"""The same for memory that is really used."""
MOST_CPU_S, MOST_WAIT_S = 30.0, 300.0
"""Processor time and time by the clock after which reading counts as a hang."""
FAULTS = ("tracebacks", "hangs", "memory", "silent changes", "files outside touched")


class Result(NamedTuple):
    """What became of one mutation."""

    number: int
    target: str
    outcome: str
    """One of FAULTS, "refused", "same" or "legal"."""
    detail: str = ""


def fuzz(mutations: int, seed: int, folder: Path) -> Iterator[Result]:
    """The result of each mutation.

    Args:
        mutations: how many.
        seed: what they are.
        folder: an empty folder for the files.
    """
    torch.set_num_threads(1)
    known = targets()
    context = multiprocessing.get_context("fork")
    # This process computes nothing itself: threads of what it computed would be missing in its workers.
    maker = context.Process(target=_make, args=(known, folder))
    maker.start()
    maker.join()
    outside = folder / "outside"
    outside.mkdir()
    (outside / "mine").write_text("mine")
    number = 0
    while number < mutations:
        ours, theirs = context.Pipe(duplex=False)
        worker = context.Process(
            target=_work, args=(known, folder, range(number, mutations), seed, theirs), daemon=True
        )
        worker.start()
        theirs.close()
        for result in _received(worker.pid, ours):
            if result is None:  # the worker is at this one for too long, or was killed for its memory
                alive = worker.is_alive()
                worker.kill()
                target = known[_chosen(known, number, seed)[0]]
                yield Result(number, target.name, "hangs" if alive else "memory")
                number += 1
            else:
                yield result
                number = result.number + 1
        worker.join()


def _make(known: Sequence[Target], folder: Path) -> None:
    """Write the files of all targets."""
    for index, target in enumerate(known):
        original = folder / "originals" / str(index)
        original.mkdir(parents=True)
        target.make(original)


def _received(pid: int | None, results: Connection) -> Iterator[Result | None]:
    """Results of a worker. None if it takes too long, or ends without the result that it is at."""
    began, cpu = time.monotonic(), _cpu_s(pid)
    while True:
        if results.poll(0.2):
            try:
                result = results.recv()
            except EOFError:
                yield None
                return
            if result is None:
                return
            yield result
            began, cpu = time.monotonic(), _cpu_s(pid)
        elif _cpu_s(pid) - cpu > MOST_CPU_S or time.monotonic() - began > MOST_WAIT_S:
            yield None
            return


def _cpu_s(pid: int | None) -> float:
    """Processor time of a process so far."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _chosen(known: Sequence[Target], number: int, seed: int) -> tuple[int, random.Random]:
    """The target of a mutation, and the generator of its choices."""
    rng = random.Random(f"{seed}-{number}")
    return rng.choices(range(len(known)), [target.share for target in known])[0], rng


def _work(
    known: Sequence[Target],
    folder: Path,
    numbers: Sequence[int],
    seed: int,
    results: Connection,
) -> None:
    """Read mutated files, and send a result for each. None is sent at the end."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MOST_BYTES, size + MOST_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    contents: dict[int, str] = {}
    for number in numbers:
        index, rng = _chosen(known, number, seed)
        target, work = known[index], folder / "work"
        if index not in contents:
            try:
                contents[index] = _read(target, folder / "originals" / str(index), work)
            except Exception as error:
                results.send(Result(number, target.name, "tracebacks", f"unchanged: {_where(error)}"))
                continue
        before = _outside(folder)
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        outcome, detail = _outcome(target, contents[index], folder / "originals" / str(index), work, rng)
        if _outside(folder) != before:
            outcome = "files outside touched"
        elif resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident > MOST_RESIDENT_KIB:
            outcome = "memory"
        results.send(Result(number, target.name, outcome, detail))
    results.send(None)


def _outcome(target: Target, content: str, original: Path, work: Path, rng: random.Random) -> tuple[str, str]:
    before = (original / target.file).read_bytes()
    changed = target.mutate(before, rng)
    try:
        found = _read(target, original, work, changed)
    except (Refusal, OSError) as refusal:
        lines = str(refusal).splitlines()
        one_line = len(lines) == 1 and all(
            ord(letter) < 0xD800 or ord(letter) > 0xDFFF for letter in lines[0]
        )
        return ("refused", lines[0]) if one_line else ("tracebacks", f"not one line: {lines}")
    except MemoryError as error:
        return "memory", _where(error)
    except (Exception, SystemExit) as error:
        return "tracebacks", _where(error)
    if found == content or changed == before:
        return "same", ""
    return ("silent changes" if target.has_digest else "legal"), ""


def _read(target: Target, original: Path, work: Path, changed: bytes | None = None) -> str:
    """The content of a copy of the files, one of them changed."""
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(original, work)
    if changed is not None:
        (work / target.file).write_bytes(changed)
    here = Path.cwd()
    os.chdir(work)
    try:
        return quietly(target.read, work)
    finally:
        os.chdir(here)


def _where(error: BaseException) -> str:
    places = traceback.extract_tb(error.__traceback__)[-6:]
    path = " < ".join(f"{Path(place.filename).name}:{place.lineno}" for place in reversed(places))
    return f"{type(error).__name__}: {str(error)[:200]} ({path})"


def _outside(folder: Path) -> str:
    """A digest of the names, sizes and times of all files outside the working folder."""
    state = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if folder / "work" not in (path, *path.parents):
            status = path.lstat()
            state.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode())
    return state.hexdigest()


def totals(results: Sequence[Result]) -> str:
    """One line of what was counted."""
    counts = Counter(result.outcome for result in results)
    faults = ", ".join(f"{counts[fault]} {fault}" for fault in FAULTS)
    others = ", ".join(f"{counts[name]} {name}" for name in ("refused", "same", "legal"))
    return f"{len(results):,} mutations: {faults} ({others})"


def main(words: Sequence[str] | None = None) -> int:
    """Fuzz, and print one line of totals. Returns the exit code: 1 after any fault."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.fuzz", description=__doc__)
    parser.add_argument("--mutations", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbose", action="store_true", help="also print every fault")
    options = parser.parse_args(words)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for result in fuzz(options.mutations, options.seed, Path(folder).resolve()):
            results.append(result)
            if options.verbose and result.outcome in FAULTS:
                print(result.number, result.target, result.outcome, result.detail, flush=True)
    print(totals(results))
    return int(any(result.outcome in FAULTS for result in results))


if __name__ == "__main__":
    sys.exit(main())

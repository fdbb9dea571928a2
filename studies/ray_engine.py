"""Ray Core as the engine of a study: each stage is one task, which runs its command in a scratch folder of a node.

This is the only file that imports ray (extra `cluster`), and only `--engine ray` imports it. Never imports torch.

Inputs are files at paths. A node that finds the same content at the same path reads it there, as on a shared file
system. Otherwise it takes the content from Ray's object store, where the driver puts each content once. Results come
back as content. The driver checks their digests and writes them into the study's folder, which no node touches. If
earlier work of the local engine on the stage was interrupted, the stage's own files travel as inputs do, and it
resumes. What is interrupted on a node is lost with its scratch folder.
"""

import contextlib
import fcntl
import hashlib
import logging
import math
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, assert_never

from core import locks, processes
from core.errors import Refusal
from core.gpus import VISIBLE_VARIABLE
from core.manifest import LOCK_PATIENCE_S, begun, lock_of, require_free
from core.progress import FILE_VARIABLE
from core.reading import parse_json
from core.records import digest, open_own, require_no_link, write_bytes
from studies.engine import STOP_PATIENCE_S, Ending, Needs, ending_of
from studies.logs import Log, Run
from studies.planning import Stage
from studies.reading import Study

try:
    import ray
    from ray.exceptions import OutOfMemoryError, RayError, RayTaskError
except ImportError as error:
    raise Refusal(f"ray is not installed ({error}); the extra that brings it: pip install '.[cluster]'")

_LISTEN_EVERY_S = 0.2
_SCRATCH = "spikeq-stage-"
_FRESH_S = 60.0
"""Age in seconds of a scratch folder that may not be locked yet."""
_LOOK_AT_NODES_EVERY_S = 2.0
_QUEUED = 2
"""Stages that are handed to Ray for each that can run, so that a node which is free finds one."""


class _Input(NamedTuple):
    """A file that a stage reads."""

    path: str
    """Absolute, without links or dots that were resolved."""
    digest: str
    is_own: bool
    """Whether it is a file of the stage itself, from work that was interrupted. It may be changed or removed."""
    content: Any
    """Reference of its content in the object store; None while all nodes are thought to see it at its path."""


class _Order(NamedTuple):
    """What a node needs to know to run a stage."""

    words: tuple[str, ...]
    base: str
    """Where the command runs."""
    folder: str
    """Where its results are."""
    inputs: tuple[_Input, ...]
    has_gpu: bool
    """Whether Ray gives it a share of a GPU, and names that GPU to the worker."""


class _Told(NamedTuple):
    """What a node tells of a stage that it runs: one item of the task's stream."""

    what: Literal["started", "said", "missing", "ended", "file", "done"]
    text: str = ""
    """The host, or the path of a file in the stage's folder."""
    content: bytes = b""
    """What the command printed; the content of a file."""
    progress: bytes = b""
    """The file of its progress, if there is one."""
    code: int = 0
    """The command's exit code."""


@dataclass
class _Task:
    """A stage that Ray runs, as the driver knows it."""

    stage: Stage
    needs: Needs
    log: Log
    stream: Any
    own: tuple[str, ...]
    """Its own files that were sent."""
    files: dict[str, bytes] = field(default_factory=dict)
    """The files that came back, by path in its folder."""


class RayEngine:
    """Runs stages on the nodes of a Ray cluster.

    Args:
        study: the study.
        jobs: stages that are handed to Ray at the same time, at most; 0 for some more than the cluster has room for.
        address: of a running cluster, as in "auto"; None to start Ray on this machine.

    Raises:
        Refusal: there is no cluster at the address.
    """

    def __init__(self, study: Study, jobs: int, address: str | None):
        self._study, self._jobs = study, jobs
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RayError) as error:
            first = next(iter(str(error).splitlines()), type(error).__name__)
            raise Refusal(f"address is {address!r}: that of a running Ray cluster is needed ({first})")
        # By name: each node imports its own SpikeQ.
        self._work = ray.remote(num_returns="streaming", max_retries=0)(_work)
        self._tasks: list[_Task] = []
        self._is_stopping = False
        self._is_shared = True  # until a node does not find a file
        self._contents: dict[str, Any] = {}
        self._nodes: list[dict[str, float]] = []
        self._looked_at = -math.inf

    @property
    def has_gpu(self) -> bool:
        return any(node.get("GPU", 0) for node in self._resources())

    def admits(self, needs: Needs) -> bool:
        # Ray itself keeps what does not fit waiting.
        cores = sum(node.get("CPU", 0) for node in self._resources())
        return len(self._tasks) < (self._jobs or _QUEUED * max(1, int(cores // needs.cores)))

    def start(self, stage: Stage, needs: Needs, log: Log) -> None:
        own = self._own_files(stage)
        inputs = [self._input(path, is_own=True) for path in own]
        inputs += [self._input(path, is_own=False) for path in self._needed_files(stage)]
        folder = os.path.abspath(stage.manifest.parent)
        order = _Order(
            stage.arguments, os.path.abspath(self._study.base), folder, tuple(inputs), needs.gpu_share > 0
        )
        stream = self._work.options(**reserved(needs, self._resources())).remote(order)
        self._tasks.append(_Task(stage, needs, log, stream, own))

    def ended(self) -> list[Ending]:
        endings = []
        while ready := self._ready():
            for task in ready:
                ending = self._hear(task)
                if ending is not None:
                    self._tasks.remove(task)
                    endings.append(ending)
        return endings

    def stop(self) -> None:
        self._is_stopping = True
        for task in self._tasks:
            ray.cancel(task.stream)
        give_up = time.monotonic() + STOP_PATIENCE_S
        while self._tasks and time.monotonic() < give_up:
            self.ended()
            time.sleep(0.1)
        self._tasks.clear()
        ray.shutdown()  # ends the workers of what is left

    def _ready(self) -> list[_Task]:
        """The tasks that have told something."""
        streams = [task.stream for task in self._tasks]
        if not streams:
            return []
        ready, _ = ray.wait(streams, num_returns=len(streams), timeout=0, fetch_local=False)
        return [task for task in self._tasks if any(task.stream is each for each in ready)]

    def _hear(self, task: _Task) -> Ending | None:
        """Take what a node told next of a stage. Returns how the stage ended, if it has."""
        stage, log = task.stage, task.log
        try:
            told: _Told = ray.get(next(task.stream))
        except OutOfMemoryError:
            return Ending(stage, "memory", "killed by Ray, because its node was short of memory")
        except RayTaskError as error:
            log.say(str(error))
            return Ending(stage, "failed", f"its node could not run it ({type(error.cause).__name__})")
        except (RayError, StopIteration) as error:
            return Ending(stage, "lost", f"its worker or node was lost ({type(error).__name__})")
        match told.what:
            case "started":
                log.say(f"on {told.text}")
                log.write_run(Run("running"))
            case "said":
                with open_own(log.output, "ab") as file:
                    file.write(told.content)
                if told.progress:
                    write_bytes(log.progress, told.progress)
            case "missing":
                self._is_shared = False
                self._tasks.remove(task)
                if not self._is_stopping:
                    log.forget()
                    self.start(stage, task.needs, log)
            case "ended":
                return ending_of(stage, told.code)
            case "file":
                task.files[told.text] = told.content
            case "done":
                try:
                    return self._receive(task)
                except Refusal as refusal:
                    log.say(f"error: {refusal}")
                    return Ending(stage, "refused", f"refused: {refusal}")
            case _:
                assert_never(told.what)
        return None

    def _receive(self, task: _Task) -> Ending:
        """Write what came back into the study's folder, if it is what the stage's manifest says.

        Raises:
            Refusal: a file is in the way, or the manifest names a file that did not come.
        """
        manifest, files = task.stage.manifest, dict(task.files)
        content = files.pop(manifest.name, None)
        recorded = parse_json(content)["outputs"] if content else {}
        if not recorded or any(digest(files.get(name, b"")) != known for name, known in recorded.items()):
            return Ending(task.stage, "lost", "its results did not arrive whole")
        assert content is not None
        paths = {name: _inside(manifest.parent, name) for name in files}
        for path in paths.values():
            if os.path.lexists(path) and str(path) not in task.own:
                raise Refusal(f"{path} exists, and this command did not make it: move it away")
        manifest.parent.mkdir(parents=True, exist_ok=True)
        lock = locks.acquire(lock_of(manifest), LOCK_PATIENCE_S)
        if lock is None:
            raise Refusal(f"another process is at work on {manifest.parent}")
        try:
            # If this process is killed in between, there is unfinished work, which is done again.
            write_bytes(manifest, begun(content))
            for name, path in paths.items():
                write_bytes(path, files[name])
            for gone in {*task.own} - {str(manifest), *map(str, paths.values())}:
                Path(gone).unlink(missing_ok=True)
            write_bytes(manifest, content)
        finally:
            locks.release(lock_of(manifest), lock)
        return Ending(task.stage, "done")

    def _own_files(self, stage: Stage) -> tuple[str, ...]:
        """The files of a stage whose work was interrupted.

        Raises:
            Refusal: its results are there without a manifest, so they are somebody else's, or one is a symbolic link.
        """
        if not stage.manifest.exists():
            require_free(stage.manifest, stage.results)
            return ()
        files = [path for path in sorted(stage.manifest.parent.rglob("*")) if not path.is_dir()]
        for path in files:
            require_no_link(path)
        return tuple(str(path) for path in files if path.suffix != ".lock")

    def _needed_files(self, stage: Stage) -> list[str]:
        """The files of other stages, and extensions, that a stage needs; with the manifests that record them."""
        needs = {*stage.needs}
        needs |= {file for file in self._study.extension_files if file.is_relative_to(self._study.base)}
        needs |= {beside for need in stage.needs for beside in need.parent.glob("*manifest.json")}
        return [str(path) for path in sorted(needs) if path.is_file()]

    def _input(self, path: str, is_own: bool) -> _Input:
        with open(path, "rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        content = None
        if not self._is_shared:
            content = self._contents.get(sha256) or ray.put(Path(path).read_bytes())
            if not is_own:  # others need it too
                self._contents[sha256] = content
        return _Input(os.path.abspath(path), sha256, is_own, content)

    def _resources(self) -> list[dict[str, float]]:
        """What each living node has."""
        if time.monotonic() - self._looked_at > _LOOK_AT_NODES_EVERY_S:
            self._nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            self._looked_at = time.monotonic()
        return self._nodes


def reserved(needs: Needs, nodes: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """What Ray reserves for a stage, as options of its task.

    If no node has all that is needed, the stage would wait forever. Then it is given what the node has that satisfies
    most. A node that lacks one of the resources altogether, as a head without CPUs, is no such node. If there are only
    these, the stage waits for a node to join.

    Args:
        needs: what the stage takes.
        nodes: the resources of each living node.
    """
    wanted = {"CPU": needs.cores, "GPU": needs.gpu_share, "memory": needs.memory_bytes}
    wanted = {name: amount for name, amount in wanted.items() if amount}
    least = {name: min(amount, 1) for name, amount in wanted.items()}

    def met(node: Mapping[str, float]) -> tuple[int, float]:
        shares = [min(1.0, node[name] / amount) for name, amount in wanted.items()]
        return shares.count(1.0), sum(shares)

    fit = [node for node in nodes if all(node.get(name, 0) >= amount for name, amount in least.items())]
    best = max(fit, key=met, default=wanted)
    given = {name: min(amount, best[name]) for name, amount in wanted.items()}
    options = {
        "num_cpus": given["CPU"],
        "num_gpus": given.get("GPU", 0),
        "memory": int(given.get("memory", 0)),
    }
    return {name: amount for name, amount in options.items() if amount}


def _inside(folder: Path, name: str) -> Path:
    """A file in a folder, by a name that came from elsewhere."""
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise Refusal(f"{name} is not in the stage's folder")
    return folder / name


# What a node does ------------------------------------------------------------------------------------


def _work(order: _Order) -> Iterator[_Told]:
    """Run a stage in a scratch folder, in which every file has the path that it has for the driver."""
    yield _Told("started", socket.gethostname())
    with _scratch() as scratch:
        for each in order.inputs:
            if not _place(each, Path(scratch + each.path)):
                yield _Told("missing")
                return
        base, folder = Path(scratch + order.base), Path(scratch + order.folder)
        base.mkdir(parents=True, exist_ok=True)
        code = yield from _run(order.words, base, Path(scratch), order.has_gpu)
        if code:
            yield _Told("ended", code=code)
            return
        needed = {scratch + each.path for each in order.inputs if not each.is_own}
        for path in sorted(folder.rglob("*")):
            if path.is_file() and str(path) not in needed:
                yield _Told("file", str(path.relative_to(folder)), path.read_bytes())
    yield _Told("done")


@contextlib.contextmanager
def _scratch() -> Iterator[str]:
    """A folder to work in. Those that killed workers left on this node are removed."""
    for left in Path(tempfile.gettempdir()).glob(f"{_SCRATCH}*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _FRESH_S and not locks.is_held(left):
                shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=_SCRATCH, ignore_cleanup_errors=True) as scratch:
        lock = os.open(scratch, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield scratch
        finally:
            os.close(lock)


def _place(each: _Input, target: Path) -> bool:
    """Put an input where the command looks for it. Returns whether it was found."""
    target.parent.mkdir(parents=True, exist_ok=True)
    path = Path(each.path)
    with contextlib.suppress(OSError), path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() == each.digest:
            if each.is_own:
                shutil.copyfile(path, target)
            else:
                target.symlink_to(path)
            return True
    if each.content is None:
        return False
    target.write_bytes(ray.get(each.content))
    return True


def _run(words: Sequence[str], base: Path, scratch: Path, has_gpu: bool) -> Generator[_Told, None, int]:
    """Run a command, telling what it prints and how far it is. Returns its exit code."""
    output, progress = scratch / "output", scratch / "progress"
    known = b""
    with open_own(output, "wb") as log, open(output, "rb") as printed:
        process = processes.start(
            words,
            variables={FILE_VARIABLE: str(progress)} | ({} if has_gpu else {VISIBLE_VARIABLE: ""}),
            cwd=base,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            code = None
            while code is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    code = process.wait(_LISTEN_EVERY_S)
                said, told = printed.read(), progress.read_bytes() if progress.exists() else b""
                if said or told != known:
                    known = told
                    yield _Told("said", content=said, progress=told)
        finally:
            processes.stop([process], STOP_PATIENCE_S)
    return code

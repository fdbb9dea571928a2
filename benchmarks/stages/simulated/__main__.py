"""python -m simulated --out FOLDER [--seconds S] [--needs FILE ...] [--misbehave WAY COUNTER TIMES]: a stage of a study
that sleeps and has one result, for tests and benchmarks of what drives studies. Interrupted in its second half, it
resumes there.

It misbehaves so many times: exits with code 1 (fail), with 2 (refuse), is killed as for memory (kill), or sleeps until
somebody ends it (hang). COUNTER is a file in which it counts.
"""

import argparse
import os
import signal
import sys
import time
from pathlib import Path

from core import processes
from core.manifest import Manifest
from core.progress import Progress
from core.records import digest, write_bytes

processes.follow_parent()
parser = argparse.ArgumentParser()
parser.add_argument("--out", type=Path, required=True)
parser.add_argument("--seconds", type=float, default=0.0)
parser.add_argument("--needs", type=Path, nargs="*", default=[])
parser.add_argument("--misbehave", nargs=3, default=["", os.devnull, "0"])
options = parser.parse_args()
digests = [digest(need.read_bytes()) for need in options.needs]
way, counter, times = options.misbehave
if Path(counter).stat().st_size < int(times) if Path(counter).exists() else int(times) > 0:
    with open(counter, "a") as file:
        file.write(".")
    print("it went wrong", file=sys.stderr, flush=True)
    if way == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if way == "hang":
        time.sleep(600)
    sys.exit({"fail": 1, "refuse": 2}[way])
result, half = options.out / "result.txt", options.out / "half.txt"
manifest = Manifest(options.out / "manifest.json", {"needs": digests}, [result])
with manifest.work() as has_work:
    if has_work:
        done = 50 if half.exists() else 0
        print(
            f"simulated {options.out} from {done} %, GPU {os.environ.get('CUDA_VISIBLE_DEVICES')!r}",
            flush=True,
        )
        with Progress("simulate", 100, "steps", done) as progress:
            for step in range(done, 100):
                time.sleep(options.seconds / 100)
                progress.advance(1, "score 0.5")
                if step == 50:
                    write_bytes(half, b"")
        half.unlink(missing_ok=True)
        write_bytes(result, "".join(digests).encode() + options.out.name.encode())
        manifest.finish([result])

"""Locks between processes: files held with flock, which the system frees when their holder ends, however that happens.

Never imports torch.
"""

import fcntl
import os
import time
from pathlib import Path

from core.errors import Refusal
from core.records import require_no_link


def acquire(path: Path, patience_s: float) -> int | None:
    """Lock a lock file, which is made if it is not there.

    Args:
        path: the file. Its folder exists.
        patience_s: seconds to wait for another holder. A process that was told to stop may still save its state.

    Returns:
        The lock for `release`: a file descriptor of the file. None if somebody else still holds it.

    Raises:
        Refusal: the file system has no locks, or the file is a symbolic link.
    """
    require_no_link(path)
    give_up = time.monotonic() + patience_s
    while True:
        lock = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The previous holder removes the file when it leaves. Then we locked a file that is gone.
            if path.exists() and os.fstat(lock).st_ino == path.stat().st_ino:
                return lock
        except BlockingIOError:
            pass
        except OSError as error:  # without locks, two processes could write the same files
            os.close(lock)
            path.unlink()
            raise Refusal(
                f"{path.parent} cannot be locked ({error.strerror}): a file system with flock is needed"
            )
        os.close(lock)
        if time.monotonic() > give_up:
            return None
        time.sleep(0.1)


def release(path: Path, lock: int) -> None:
    """Remove a lock file that this process holds, and free the lock."""
    path.unlink(missing_ok=True)
    os.close(lock)


def is_held(path: Path) -> bool:
    """Whether a process holds a lock file. The file may be one that cannot be written."""
    try:
        lock = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        # Shared, so that looking needs no right to write. Who wants the lock at this instant tries again.
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(lock)
    return False

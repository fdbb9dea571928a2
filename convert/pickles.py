"""What a torch file asks of the unpickler, looked at before it is loaded.

`torch.load(weights_only=True)` runs no code of a file, but it does what the file says: allocate any number of bytes,
fill lists without end, or hash tuples that are nested 2^40 times. Files of weights need little of that.
"""

import collections
import io
import pickletools
import re

from convert import archives
from core.errors import Refusal

MAX_OPERATIONS = 2**20
"""Largest number of pickle operations. Weights take some hundreds; MinAtar's files have two an episode."""
MAX_SHARED, MAX_LONG = 16, 1000
"""How often a tuple may be used again, and how many integers of more than 32 bits there may be.

Both are there to be hashed, and a file can choose them so that hashing takes for ever.
"""
MAX_TUPLES = 2**14
"""Largest number of tuples, about four a tensor. Python crashes when it hashes one that is nested a million deep."""
_LEGACY_PICKLES = 5
"""Pickles at the start of a file from before PyTorch 1.6: magic number, version, machine, content, names of tensors."""
_STORAGE = re.compile(r"torch(\.cuda)? \w+Storage|torch\.storage \w+Storage")
_PLAIN = re.compile(
    r"collections OrderedDict|torch Size|torch device|torch (float|bfloat|int|uint|complex|bool)[0-9]*"
    r"|torch\.nn\.parameter Parameter|torch\.serialization _get_layout"
    r"|torch\._utils _rebuild_(tensor|tensor_v2|parameter|sparse_tensor|meta_tensor_no_storage)"
)
_NAMES = ("BINUNICODE", "SHORT_BINUNICODE", "UNICODE")
_TUPLES = ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3")
_PUTS, _GETS = ("PUT", "BINPUT", "LONG_BINPUT"), ("GET", "BINGET", "LONG_BINGET")
_NO_TUPLES = (*_NAMES, "GLOBAL", "EMPTY_DICT", "EMPTY_LIST", "REDUCE", "BUILD")
"""Operations whose result may be used again as often as one likes."""


def require_plain(content: bytes) -> None:
    """Refuse a torch file that asks for anything but tensors in dictionaries and lists.

    Raises:
        Refusal: the file names something else, which was not run, or asks for too much.
        Exception: the file is damaged.
    """
    if content.startswith(archives.SIGNATURE):
        with archives.opened(content) as archive:
            for name in archive.namelist():
                if name.endswith("data.pkl"):
                    _require_plain(io.BytesIO(archive.read(name)), 1)
    else:
        _require_plain(io.BytesIO(content), _LEGACY_PICKLES)


def _require_plain(stream: io.BytesIO, num_pickles: int) -> None:
    operations = tuples = shared = longs = claimed = 0
    for _ in range(num_pickles):
        memo: dict[object, tuple[str, object]] = {}
        before: tuple[str, object] = ("", None)
        """The operation that made the value on top, with its argument."""
        recent: collections.deque[tuple[str, object]] = collections.deque(maxlen=8)
        """The latest such operations."""
        for operation, argument, _position in pickletools.genops(stream):
            operations += 1
            if operation.name in _PUTS:
                memo[argument] = before
                continue
            made = (operation.name, argument)
            if operation.name in _GETS:
                made = memo.get(argument, made)
                shared += made[0] not in _NO_TUPLES
            if _is_storage(before) and made[0] not in _NAMES:
                raise Refusal(f"it makes a {before[1]} by itself: only tensors are accepted")
            if made[0] == "GLOBAL" and not (_is_storage(made) or _PLAIN.fullmatch(str(made[1]))):
                code = ".".join(str(argument).split())[:80]
                raise Refusal(
                    f"it asks for {code!r}: only tensors are accepted, and no code was run; a file of the network's "
                    "state_dict alone can be read"
                )
            if operation.name in ("PERSID", "BINPERSID"):
                claimed += _claimed_numbers([*recent])
                archives.require_bounded(claimed)
            longs += operation.name in ("LONG", "LONG1", "LONG4")
            tuples += operation.name in _TUPLES
            many = tuples > MAX_TUPLES or shared > MAX_SHARED or longs > MAX_LONG
            if operations > MAX_OPERATIONS or many:
                raise Refusal(
                    "it holds more than tensors: a file of the network's state_dict alone can be read"
                )
            before = made
            recent.append(made)


def _claimed_numbers(recent: list[tuple[str, object]]) -> int:
    """How many numbers a storage says that it has. The unpickler allocates as many.

    It is described by the tuple ("storage", type, key, device, number), which older files end with None.
    """
    names = [name for name, _ in recent]
    parts = recent[-7:-1] if names[-2:-1] != ["NONE"] else recent[-8:-2]
    if len(parts) == 6 and names[-1] == "TUPLE" and parts[0][0] == "MARK" and _is_storage(parts[2]):
        number = parts[5][1]
        if isinstance(number, int) and number >= 0:
            return number
    raise Refusal("it describes its tensors in another way than torch.save does")


def _is_storage(operation: tuple[str, object]) -> bool:
    name, argument = operation
    return name == "GLOBAL" and _STORAGE.fullmatch(str(argument)) is not None

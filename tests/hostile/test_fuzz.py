"""`make fuzz` fails after any fault, and its readers refuse a change of a file that has a digest."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from core.errors import Refusal
from tests.hostile import fuzz
from tests.hostile.targets import quietly, targets


@pytest.mark.parametrize("outcome", fuzz.FAULTS)
def test_every_fault_is_fatal(outcome: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [fuzz.Result(0, "a card", "refused"), fuzz.Result(1, "a card", outcome)]
    monkeypatch.setattr(fuzz, "fuzz", lambda *words: iter(found))
    assert fuzz.main([]) == 1
    found.pop()
    assert fuzz.main([]) == 0


@pytest.mark.parametrize(
    "target", [each for each in targets() if each.name.startswith("rows ")], ids=lambda each: each.name
)
def test_every_reader_of_rows_refuses_what_was_changed(
    target: "fuzz.Target", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target.make(tmp_path)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / target.file
    pq.write_table(pq.read_table(path), path, compression="none")  # only the digest tells
    with pytest.raises(Refusal, match=r"was changed after|figures were refused"):
        quietly(target.read, tmp_path)

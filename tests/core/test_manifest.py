"""A manifest: asking twice does the work once, and what does not match is refused by name."""

import hashlib
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from core import extensions, manifest
from core.errors import Refusal
from core.machine import source_code
from core.manifest import Manifest, read_manifest

REPOSITORY = Path(__file__).resolve().parents[2]
SPEC = {"verb": "evaluate run", "game": "pong", "seed": 0, "epsilons": (0.0, 1 / 255), "out": None}


def finished(folder: Path) -> Path:
    """A folder whose work was done; the path of its manifest."""
    work = Manifest(folder / "manifest.json", SPEC, [])
    with work.work() as needed:
        assert needed
        (folder / "episodes.parquet").write_bytes(b"rows")
        work.finish([folder / "episodes.parquet"])
    return folder / "manifest.json"


def test_a_fresh_folder_has_nothing_done_and_nothing_in_it(tmp_path: Path) -> None:
    work = Manifest(tmp_path / "run" / "manifest.json", SPEC, [])
    assert not work.done
    assert list(tmp_path.iterdir()) == []  # a refusal that comes later leaves nothing behind


def test_started_work_is_not_done(tmp_path: Path) -> None:
    with Manifest(tmp_path / "run" / "manifest.json", SPEC, []).work():
        pass
    assert not Manifest(tmp_path / "run" / "manifest.json", SPEC, []).done


def test_finished_work_is_done_when_it_is_asked_for_again(tmp_path: Path) -> None:
    assert Manifest(finished(tmp_path), SPEC, []).done


def test_finished_work_leaves_its_results_and_its_manifest_alone(tmp_path: Path) -> None:
    finished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["episodes.parquet", "manifest.json"]


def test_a_manifest_says_what_was_asked_with_what_and_what_came_out(tmp_path: Path) -> None:
    content = json.loads(finished(tmp_path).read_text())
    assert content["spec"] == {**SPEC, "epsilons": [0.0, 1 / 255]}
    assert content["versions"]["torch"] == version("torch")
    assert content["outputs"] == {"episodes.parquet": hashlib.sha256(b"rows").hexdigest()}


@pytest.mark.parametrize("done", [True, False])
def test_another_specification_is_refused_naming_what_differs(done: bool, tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    if done:
        finished(tmp_path)
    else:
        with Manifest(path, SPEC, []).work():
            pass
    with pytest.raises(Refusal, match=r"game.*'pong'.*'boxing'") as refusal:
        Manifest(path, {**SPEC, "game": "boxing"}, [])
    assert "seed" not in str(refusal.value)


@pytest.mark.parametrize(
    "spec", [{**SPEC, "protocol": "liu2022"}, {k: v for k, v in SPEC.items() if k != "seed"}]
)
def test_a_specification_with_more_or_fewer_options_is_refused(spec: dict[str, Any], tmp_path: Path) -> None:
    path = finished(tmp_path)
    (differing,) = spec.keys() ^ SPEC.keys()
    with pytest.raises(Refusal, match=differing):
        Manifest(path, spec, [])


def test_a_changed_result_is_refused_by_name(tmp_path: Path) -> None:
    path = finished(tmp_path)
    (tmp_path / "episodes.parquet").write_bytes(b"better rows")
    with pytest.raises(Refusal, match=r"episodes\.parquet was changed"):
        Manifest(path, SPEC, [])


def test_work_whose_result_is_missing_is_done_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = finished(tmp_path)
    (tmp_path / "episodes.parquet").unlink()
    manifest = Manifest(path, SPEC, [])
    assert not manifest.done
    with manifest.work() as needed:
        assert needed
        assert "episodes.parquet is missing: the work is done again" in capsys.readouterr().err
        (tmp_path / "episodes.parquet").write_bytes(b"rows")
        manifest.finish([tmp_path / "episodes.parquet"])
    assert Manifest(path, SPEC, []).done


def test_a_changed_result_is_refused_even_if_another_one_is_missing(tmp_path: Path) -> None:
    path, changed, gone = (
        tmp_path / "manifest.json",
        tmp_path / "curve.parquet",
        tmp_path / "agent.safetensors",
    )
    manifest = Manifest(path, SPEC, [])
    with manifest.work():
        for output in (changed, gone):
            output.write_bytes(b"result")
        manifest.finish([gone, changed])
    gone.unlink()
    changed.write_bytes(b"better result")
    with pytest.raises(Refusal, match=r"curve\.parquet was changed"):
        Manifest(path, SPEC, [])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"null",
        b"3",
        b"[]",
        b"{}",
        b'{"spec": {}}',
        b'{"spec": [], "outputs": {}, "command": []}',
        b'{"spec": null, "outputs": {}, "command": []}',
        b'{"spec": {}, "outputs": [], "command": []}',
    ],
)
def test_a_file_that_is_no_manifest_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(Refusal, match=r"manifest\.json"):
        Manifest(tmp_path / "manifest.json", {}, [])
    with pytest.raises(Refusal, match=r"manifest\.json"):
        read_manifest(tmp_path / "manifest.json")


def test_a_place_below_a_regular_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Refusal, match=r"cannot write to .*deeper"):
        Manifest(tmp_path / "file" / "deeper" / "manifest.json", SPEC, [])


def test_work_in_progress_elsewhere_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "LOCK_PATIENCE_S", 0.0)
    first, second = (Manifest(tmp_path / "run" / "manifest.json", SPEC, []) for _ in range(2))
    with first.work(), pytest.raises(Refusal, match="another process is at work"), second.work():
        pass
    assert list((tmp_path / "run").iterdir()) == [tmp_path / "run" / "manifest.json"]
    with second.work() as needed:  # what the first left undone is the second's
        assert needed


def test_refused_work_leaves_nothing_behind(tmp_path: Path) -> None:
    for error in (Refusal("dead layer"), OSError("disk full")):
        with (
            pytest.raises(type(error)),
            Manifest(tmp_path / "deep" / "run" / "manifest.json", SPEC, []).work(),
        ):
            raise error
        assert list(tmp_path.iterdir()) == []


def test_refused_work_keeps_what_was_there(tmp_path: Path) -> None:
    with Manifest(tmp_path / "manifest.json", SPEC, []).work():
        (tmp_path / "state").write_bytes(b"hours of work")
    with pytest.raises(OSError, match="disk full"), Manifest(tmp_path / "manifest.json", SPEC, []).work():
        raise OSError("disk full")
    assert (tmp_path / "state").exists()
    assert (tmp_path / "manifest.json").exists()


def test_work_that_another_process_finished_meanwhile_is_not_undone(tmp_path: Path) -> None:
    # The second process asked before the first was done, and waited for its lock.
    waiting = Manifest(tmp_path / "manifest.json", SPEC, [])
    finished(tmp_path)
    with waiting.work() as needed:
        assert not needed
    assert Manifest(tmp_path / "manifest.json", SPEC, []).done


def test_reading_a_manifest_that_is_not_there_finds_none(tmp_path: Path) -> None:
    assert read_manifest(tmp_path / "manifest.json") is None


def test_reading_a_manifest_finds_what_was_recorded(tmp_path: Path) -> None:
    record = read_manifest(finished(tmp_path))
    assert record is not None
    assert record.spec == {**SPEC, "epsilons": [0.0, 1 / 255]}
    assert list(record.outputs) == ["episodes.parquet"]
    assert not list(record.mismatches())


def test_work_that_failed_after_it_had_begun_keeps_its_manifest(tmp_path: Path) -> None:
    # Without it, a run of another seed would take the state that lies there for its own.
    def work_until_the_disk_is_full() -> None:
        with Manifest(tmp_path / "run" / "manifest.json", SPEC, []).work():
            (tmp_path / "run" / "state").write_bytes(b"an hour of work")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        work_until_the_disk_is_full()
    with pytest.raises(Refusal, match="of another specification"):
        Manifest(tmp_path / "run" / "manifest.json", {**SPEC, "game": "boxing"}, [])
    with Manifest(tmp_path / "run" / "manifest.json", SPEC, []).work() as needed:
        assert needed


def test_a_lock_left_by_a_kill_is_tidied_up_by_the_next_who_asks(tmp_path: Path) -> None:
    path = finished(tmp_path)
    (tmp_path / "manifest.lock").touch()
    with Manifest(path, SPEC, []).work() as needed:
        assert not needed
    assert not (tmp_path / "manifest.lock").exists()
    assert Manifest(path, SPEC, []).done


def test_a_file_of_somebody_elses_is_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "manifest.lock"
    path.write_text("mine")
    with (
        pytest.raises(Refusal, match=r"manifest\.lock is not a lock of SpikeQ"),
        Manifest(tmp_path / "manifest.json", SPEC, []).work(),
    ):
        pass
    assert path.read_text() == "mine"


def test_work_of_other_code_of_an_extension_is_not_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tmp_path / "episodes.parquet"

    def code(*sha256: str) -> None:
        monkeypatch.setattr(extensions, "EXTENSIONS", {f"mine{i}": each for i, each in enumerate(sha256)})

    def begin(**changes: object) -> Manifest:
        return Manifest(tmp_path / "manifest.json", {**SPEC, **changes}, [rows])

    monkeypatch.setattr(extensions, "_USED", {"mine0"})
    code("a")
    with pytest.raises(KeyboardInterrupt), begin().work():
        raise KeyboardInterrupt
    code("b")
    assert not begin().done  # nothing was written yet
    with pytest.raises(Refusal, match="is of the extension 'mine0' before it was changed"):
        begin(game="boxing")
    rows.write_bytes(b"rows")
    with pytest.raises(Refusal, match="is of the extension 'mine0' before it was changed"):
        begin()
    # Who waited for the lock while another process finished leaves its manifest alone.
    code("a")
    waiting, other = begin(), begin()
    with other.work():
        other.finish([rows])
    whole = (tmp_path / "manifest.json").read_bytes()
    code("b")
    with pytest.raises(Refusal, match="is of the extension 'mine0' before it was changed"), waiting.work():
        pass
    assert (tmp_path / "manifest.json").read_bytes() == whole
    # Another extension in the place of the recorded one; more or fewer are no other code.
    monkeypatch.setattr(extensions, "EXTENSIONS", {"renamed": "b"})
    with pytest.raises(Refusal, match="is of the extension 'mine0' before it was changed"):
        begin()
    for known in ({}, {"mine0": "a"}, {"mine0": "a", "another": "c"}, {"renamed": "a"}):
        monkeypatch.setattr(extensions, "EXTENSIONS", known)
        assert begin().done


def test_libraries_that_give_numbers_are_recorded_when_they_are_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from core.manifest import versions; before = versions()\n"
        "import sklearn; print(*sorted(versions().keys() - before.keys()))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert shown.stdout.split() == ["scikit-learn"]


def test_code_that_no_commit_holds_counts_as_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """New files of packages too. Results and files beside the packages are no code of ours."""
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "__init__.py").write_text("")
    git = ("git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b")
    for words in (("init", "-q"), ("add", "."), ("commit", "-q", "-m", "first")):
        subprocess.run([*git, *words], check=True)
    monkeypatch.setattr("core.machine.HOUSE", tmp_path)

    def is_changed() -> object:
        source_code.cache_clear()
        return source_code()["changed"]

    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "scores.csv").write_text("1")
    assert is_changed() is False
    (tmp_path / "core" / "scores.csv").write_text("1")
    assert is_changed() is True
    (tmp_path / "core" / "scores.csv").unlink()
    (tmp_path / "core" / "method.py").write_text("")
    assert is_changed() is True
    monkeypatch.undo()
    source_code.cache_clear()


def test_who_asks_in_other_words_is_recognised_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = finished(tmp_path)
    monkeypatch.setattr(sys, "argv", ["/somewhere/evaluate/__main__.py", "run", "--threads", "1"])
    with Manifest(path, SPEC, []).work() as needed:
        assert not needed
    record = read_manifest(path)
    assert record is not None
    assert record.command == ["evaluate", "run", "--threads", "1"]
    assert not list(record.mismatches())


def test_work_of_a_version_with_other_rows_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = finished(tmp_path)
    monkeypatch.setattr(manifest, "ROWS_FORMAT", "another")
    with pytest.raises(Refusal, match="another version of SpikeQ"):
        Manifest(path, SPEC, [])


def test_paths_of_manifests_may_be_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_manifest("manifest.json") is None
    with Manifest("manifest.json", {"a": 1}, []).work() as needed:
        assert needed
    record = read_manifest("manifest.json")
    assert record is not None
    assert record.spec == {"a": 1}

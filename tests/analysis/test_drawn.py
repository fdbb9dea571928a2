"""The record of what was drawn in a folder is a file that people send each other: it is not believed."""

import json
from pathlib import Path

import pytest

from analysis.drawn import RECORD, Drawn
from core.errors import Refusal
from core.records import digest


def recorded(folder: Path, content: object) -> Path:
    (folder / "figures").mkdir(parents=True)
    (folder / RECORD).write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    "name",
    [
        *("../quick.toml", "figures/../../quick.toml", "figures/score_bars.d/../../../quick.toml"),
        *("/quick.toml", "figures//quick.toml", "figures/", "a/b.png", "figures/a/b.png", "", ".."),
    ],
)
def test_names_outside_the_folder_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "quick.toml").write_text("mine")
    sent = recorded(tmp_path / "sent", {name: digest(b"mine")})
    with pytest.raises(Refusal, match="a file in its folder or in figures/ is needed"):
        Drawn(sent)


@pytest.mark.parametrize(
    "content", [{"my": "data"}, {"scores.md": 3}, {"scores.md": None}, {"a": digest(b"") + "0"}]
)
def test_a_record_of_somebody_else_is_refused(content: object, tmp_path: Path) -> None:
    sent = recorded(tmp_path / "sent", content)
    with pytest.raises(Refusal, match=r"plot\.json is not a record of figures"):
        Drawn(sent)
    assert json.loads((sent / RECORD).read_text()) == content


@pytest.mark.parametrize("name", ["figures", RECORD])
@pytest.mark.parametrize("target", ["outside", "nowhere"])
def test_no_link_is_followed(name: str, target: str, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    sent = tmp_path / "sent"
    sent.mkdir()
    (sent / name).symlink_to(tmp_path / target)
    with pytest.raises(Refusal, match="is a symbolic link"):
        Drawn(sent)
    assert not any((tmp_path / "outside").iterdir())


def test_what_is_in_the_way_stays(tmp_path: Path) -> None:
    drawn = Drawn(tmp_path)
    (tmp_path / "scores.md").symlink_to(tmp_path / "nowhere")
    (tmp_path / "games.md").mkdir()
    for name in ("scores.md", "games.md"):
        with pytest.raises(Refusal, match="was not made here"):
            drawn.write(name, b"a table")
    assert (tmp_path / "scores.md").is_symlink()


def test_own_files_are_replaced_and_removed(tmp_path: Path) -> None:
    Drawn(tmp_path).write("figures/a.png", b"picture")
    drawn = Drawn(tmp_path)
    drawn.write("figures/a.png", b"another")
    (name,) = drawn.names("figures/a.*")
    drawn.remove(name)
    assert not (tmp_path / name).exists()

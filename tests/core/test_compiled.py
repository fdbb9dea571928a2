"""Machine code is kept between processes, and never used after a change of what it was made of."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from core.compiled import KEPT_UNUSED_S, _parts

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = {
    "constants.py": "SCALE = 2.0\n",
    "inner.py": (
        "from constants import SCALE\n"
        "from core.compiled import compiled\n"
        "@compiled(inline='always')\n"
        "def scaled(x):\n"
        "    return SCALE * x\n"
    ),
    "outer.py": (
        "import sys\n"
        "from core.compiled import compiled\n"
        "from inner import scaled\n"
        "@compiled()\n"
        "def work(x):\n"
        "    return scaled(x) + 1.0\n"
        "print(work(3.0), sum(work._cache_hits.values()))\n"
    ),
}
"""A compiled function, another that is compiled into it, and a constant that is compiled into that one."""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A checkout of its own."""
    tree = tmp_path / "tree"
    shutil.copytree(REPOSITORY / "core", tree / "core", ignore=shutil.ignore_patterns("__pycache__"))
    for name, content in FILES.items():
        (tree / name).write_text(content)
    return tree


def run(tree: Path, *words: str, **environment: str) -> list[str]:
    """What a Python program in the checkout prints."""
    set_ = {**os.environ, "PYTHONPATH": str(tree), **environment}
    done = subprocess.run([sys.executable, *words], cwd=tree, env=set_, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def kept(tree: Path) -> list[Path]:
    return sorted((tree / "core" / "__pycache__" / "spikeq-compiled").iterdir())


@pytest.mark.parametrize(
    ("file", "old", "new", "result"),
    [
        ("outer.py", "+ 1.0", "+ 2.0", "8.0"),
        ("inner.py", "SCALE * x", "SCALE * x * 10", "61.0"),
        ("constants.py", "2.0", "5.0", "16.0"),
    ],
)
def test_a_change_of_any_part_is_seen(file: str, old: str, new: str, result: str, tree: Path) -> None:
    assert run(tree, "outer.py") == ["7.0", "0"]
    changed = tree / file
    changed.write_text(changed.read_text().replace(old, new))
    assert run(tree, "outer.py") == [result, "0"]


def test_the_gradient_of_a_converted_layer_follows_a_change_of_the_surrogate(tree: Path) -> None:
    """core/rate_coded/fused.py compiles in what core/neurons/compiled.py defines."""
    program = (
        "import torch\n"
        "from core.neurons.surrogates import SpikeDerivative\n"
        "from core.rate_coded.fused import run\n"
        "from core.rate_coded.torch_engine import DEFAULT_NEURON\n"
        "x = torch.full((1, 3), 0.5, requires_grad=True)\n"
        "spikes, _ = run(x, 1, None, DEFAULT_NEURON, SpikeDerivative('rectangle', 0.5, False))\n"
        "spikes.sum().backward()\n"
        "print(*x.grad[0].tolist())\n"
    )
    assert run(tree, "-c", program) == ["0.5"] * 3
    file = tree / "core" / "neurons" / "compiled.py"
    before = "slopes[lane] = slope if inside else zero"
    assert file.read_text().count(before) == 1
    file.write_text(file.read_text().replace(before, "slopes[lane] = np.float32(7) if inside else zero"))
    assert run(tree, "-c", program) == ["7.0"] * 3


def test_a_module_that_is_built_into_python_is_no_part() -> None:
    """On some builds math is one, as sys is on all."""

    def work() -> int:
        return sys.maxsize

    assert len([*_parts(work)]) == 2  # the files of this function and of the decorator


def test_what_was_kept_is_loaded_unless_it_is_damaged(tree: Path) -> None:
    assert run(tree, "outer.py") == ["7.0", "0"]
    assert run(tree, "outer.py") == ["7.0", "1"]
    for ending in (".nbc", ".nbi", ".sha256"):
        (file,) = [file for file in kept(tree) if file.suffix == ending]
        whole = file.read_bytes()
        file.write_bytes(whole[:30] + bytes([whole[30] ^ 1]) + whole[31:])
        assert run(tree, "outer.py") == ["7.0", "0"]
        assert run(tree, "outer.py") == ["7.0", "1"]  # kept again


def test_files_that_nothing_used_for_a_month_are_deleted(tree: Path) -> None:
    run(tree, "outer.py")
    outdated = kept(tree)
    used = outdated[0].with_name("used")
    used.touch()
    since = used.stat().st_mtime - KEPT_UNUSED_S - 10
    for old in outdated:
        os.utime(old, (since, since))
    (tree / "constants.py").write_text("SCALE = 3.0\n")
    assert run(tree, "outer.py") == ["10.0", "0"]
    assert not {*outdated} & {*kept(tree)}
    assert used in kept(tree)


@pytest.mark.parametrize("unusable", ["no home", "home is a file", "others may write", "a link"])
def test_without_a_folder_of_ones_own_nothing_is_kept(unusable: str, tree: Path, tmp_path: Path) -> None:
    """As in a read-only checkout. Files that others wrote are not even read: loading one could do anything."""
    in_tree = tree / "core" / "__pycache__"
    home = tmp_path / "home"
    if unusable == "no home":
        in_tree.write_text("")
    elif unusable == "home is a file":
        in_tree.write_text("")
        home.write_text("")
    elif unusable == "others may write":
        in_tree.mkdir()
        for folder in (in_tree / "spikeq-compiled", home / ".cache" / "spikeq-compiled"):
            folder.mkdir(parents=True)
            folder.chmod(0o777)
    else:
        elsewhere = tmp_path / "elsewhere"
        for folder in (elsewhere, in_tree, home / ".cache"):
            folder.mkdir(parents=True)
        for folder in (in_tree, home / ".cache"):
            (folder / "spikeq-compiled").symlink_to(elsewhere)
    before = sorted(tmp_path.rglob("spikeq-compiled/*"))
    for _ in range(2):
        environment = {
            "HOME": str(home),
            "XDG_CACHE_HOME": "",
            "NUMBA_CACHE_DIR": "",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        assert run(tree, "outer.py", **environment) == ["7.0", "0"]
    assert sorted(tmp_path.rglob("spikeq-compiled/*")) == before == []


def test_a_users_folders_are_used_where_the_checkout_is_read_only(tree: Path, tmp_path: Path) -> None:
    (tree / "core" / "__pycache__").write_text("")
    home, given = tmp_path / "home", tmp_path / "given"
    home.mkdir()
    environment = {"HOME": str(home), "XDG_CACHE_HOME": "", "NUMBA_CACHE_DIR": ""}
    assert run(tree, "outer.py", **environment) == ["7.0", "0"]
    assert run(tree, "outer.py", **environment) == ["7.0", "1"]
    assert len(list((home / ".cache" / "spikeq-compiled").iterdir())) == 3
    assert run(tree, "outer.py", **{**environment, "NUMBA_CACHE_DIR": str(given)}) == ["7.0", "0"]
    assert len(list((given / "spikeq-compiled").iterdir())) == 3

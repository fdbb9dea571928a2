"""The house as a whole: which way imports run, what is never loaded, and what is never unpickled."""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
STAGES = ("train_direct", "convert", "evaluate", "adversarial")
PACKAGES = ("core", "play", "analysis", "card", "studies", *STAGES)
"""Rooms of the house; the public face `spikeq` re-exports names of all of them."""
TORCH_FREE = (
    "core.errors", "core.games", "core.records", "core.rows", "core.manifest", "core.cli", "core.progress",
    "core.registry", "core.kinds", "core.options", "core.places", "core.ranges", "core.memory", "core.interrupts",
    "core.wrong_options", "play.protocols",
    "core.locks", "core.processes", "studies.source", "studies.reading", "studies.planning", "studies.checking",
    "studies.done", "studies.logs", "studies.status", "studies.showing", "studies.engine", "studies.ray_engine",
    "studies.running", "studies.forecast", "studies.schedule", "studies.dry_run", "core.words", "core.workload",
)  # fmt: skip
"""Modules outside analysis that figures, studies and `--help` need; all of analysis is free of torch too."""
ALLOWED = {
    "core": {"core"},
    "play": {"core", "play"},
    "analysis": {"core", "analysis"},
    # A card starts the stages through their command lines.
    "card": {"core", "play", "analysis", "card"},
    # A study starts the stages through their command lines. It lets them parse these first, in another process.
    "studies": {"core", "studies"},
    # Stages read rows with analysis, for the lines that they print at the end, `check` and `verdict`.
    **{stage: {"core", "play", "analysis", stage} for stage in STAGES},
}


def sources(package: str) -> list[Path]:
    return sorted((REPOSITORY / package).rglob("*.py"))


def own_sources() -> list[Path]:
    """Every source file of the project but its tests, which make bad files on purpose."""
    return [*REPOSITORY.glob("*.py")] + [
        path for folder in (*PACKAGES, "benchmarks") for path in sources(folder)
    ]


def imports(source: str, package: str = "") -> Iterator[str]:
    """Dotted names that a source imports anywhere, also inside functions and by name.

    Args:
        source: Python.
        package: the package of the module, for relative imports.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                parts = package.split(".")
                base = ".".join(
                    [*parts[: len(parts) - node.level + 1], *([node.module] if node.module else [])]
                )
            else:
                base = str(node.module)
            # `from core import envs` may import a module, `from play.environments import Outcome` a name.
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args:
            function = (
                node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            )
            name = node.args[0]
            if function in ("import_module", "__import__") and isinstance(name, ast.Constant):
                yield str(name.value)


def imports_of(path: Path) -> set[str]:
    package = ".".join(path.relative_to(REPOSITORY).parent.parts)
    return set(imports(path.read_text(), package))


def rooms(names: set[str]) -> set[str]:
    """Which packages and drivers of the project are among imported names."""
    return {name.split(".")[0] for name in names} & {*PACKAGES, "reproduce", "plot", "tests", "benchmarks"}


# The walk itself -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import convert.methods.tan2021 as tan", "convert"),
        ("from adversarial import attacks", "adversarial"),
        ("def f():\n    if True:\n        from train_direct.run import Run", "train_direct"),
        ("import importlib\nimportlib.import_module('convert.methods')", "convert"),
        ("__import__('convert')", "convert"),
        ("from ..convert import methods", "convert"),
    ],
)
def test_the_walk_finds_an_import_wherever_it_hides(source: str, found: str) -> None:
    assert rooms(set(imports(source, "core.rate_coded"))) - {"core"} <= {found}
    assert any(
        name.split(".")[-1] == found or found in name.split(".")
        for name in imports(source, "core.rate_coded")
    )


def test_the_walk_sees_the_whole_house() -> None:
    for package in PACKAGES:
        assert len(sources(package)) > 1, package
    assert "core.neurons.base" in imports_of(REPOSITORY / "core" / "dsqn.py")
    assert "ale_py.vector_env" in imports_of(
        REPOSITORY / "play" / "libraries" / "ale.py"
    )  # inside a function


# Which way imports run -------------------------------------------------------------------------------


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_one_way(package: str) -> None:
    wrong = {
        str(path.relative_to(REPOSITORY)): sorted(rooms(imports_of(path)) - ALLOWED[package])
        for path in sources(package)
        if rooms(imports_of(path)) - ALLOWED[package]
    }
    assert wrong == {}


def module_path(name: str) -> Path | None:
    """The file of a module of the project; None if there is no such module in it."""
    path = REPOSITORY.joinpath(*name.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def reaches(path: Path) -> set[str]:
    """All that a file imports, and what the modules of the project among it import, and so on."""
    seen: set[str] = set()
    waiting = [path]
    while waiting:
        for name in imports_of(waiting.pop()) - seen:
            seen.add(name)
            found = module_path(name)
            if found is not None:
                waiting.append(found)
    return seen


ANALYSIS = [
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
    for path in sources("analysis")
    if path.name != "__init__.py"
]
TORCH_NAMES = {"torch", "spikingjelly", "bindsnet", "safetensors"}


@pytest.mark.parametrize("name", [*TORCH_FREE, *ANALYSIS])
def test_what_needs_no_torch_reaches_no_torch(name: str) -> None:
    path = module_path(name)
    assert path is not None
    assert not {found.split(".")[0] for found in reaches(path)} & TORCH_NAMES


@pytest.mark.parametrize("driver", sorted(path.name for path in REPOSITORY.glob("*.py")))
def test_a_driver_imports_no_stage_and_no_torch(driver: str) -> None:
    # reproduce.py starts stages by their command lines and draws by plot.py, which reads rows: both stay light.
    found = imports_of(REPOSITORY / driver)
    assert not rooms(found) & set(STAGES)
    own = {name for name in found if module_path(name) is not None and name not in PACKAGES}
    assert own <= {*TORCH_FREE, *ANALYSIS, "analysis.figures", "analysis.report", "plot"}
    assert not {name.split(".")[0] for name in reaches(REPOSITORY / driver)} & TORCH_NAMES


@pytest.mark.parametrize(
    ("libraries", "file"),
    [
        ({"bindsnet"}, "convert/bindsnet_check.py"),
        ({"nir", "nirtorch"}, "convert/nir_export.py"),
        ({"imageio_ffmpeg"}, "play/film/video.py"),
        ({"ray"}, "studies/ray_engine.py"),
    ],
)
def test_an_optional_library_is_imported_in_one_file_only(libraries: set[str], file: str) -> None:
    importing = [
        str(path.relative_to(REPOSITORY))
        for package in PACKAGES
        for path in sources(package)
        if {name.split(".")[0] for name in imports_of(path)} & libraries
    ]
    assert importing == [file]


def test_the_evaluate_that_is_imported_is_ours() -> None:
    # It is also the name of a package on PyPI.
    evaluate = importlib.import_module("evaluate")
    assert evaluate.__file__ is not None
    assert Path(evaluate.__file__).resolve() == REPOSITORY / "evaluate" / "__init__.py"


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_imports_nothing_else(package: str) -> None:
    found = [path for path in sources(package) if path.name == "__init__.py"]
    assert REPOSITORY / package / "__init__.py" in found
    assert [path for path in found if path.read_text().strip()] == []
    folders = {path.parent for path in sources(package)}
    assert folders == {path.parent for path in found}  # and no folder was forgotten


# Names ---------------------------------------------------------------------------------------------


COMMANDS = {"Run"}
"""Verbs of several command lines: classes that only their own __main__ looks at."""


def test_a_class_name_stands_for_one_thing() -> None:
    places: dict[str, list[str]] = {}
    for package in PACKAGES:
        for path in sources(package):
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    places.setdefault(node.name, []).append(str(path.relative_to(REPOSITORY)))
    assert {name: found for name, found in places.items() if len(found) > 1 and name not in COMMANDS} == {}


# What is never unpickled -----------------------------------------------------------------------------

UNPICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def unsafe_loads(source: str) -> list[str]:
    """Ways in a source to run code that a file holds."""
    found = sorted({name.split(".")[0] for name in imports(source)} & UNPICKLERS)
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        call = ast.unparse(node.func)
        options = {option.arg: ast.unparse(option.value) for option in node.keywords}
        if call == "torch.load" and options.get("weights_only") != "True":
            found.append(ast.unparse(node))
        if options.get("allow_pickle", "False") != "False" or options.get("weights_only", "True") != "True":
            found.append(ast.unparse(node))
        if call.endswith("read_pickle") or call in ("eval", "exec", "builtins.eval", "builtins.exec"):
            found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "torch.load(path)",
        "torch.load(path, weights_only=flag)",
        "numpy.load(path, allow_pickle=True)",
        "pandas.read_pickle(path)",
        "eval(text)",
    ],
)
def test_the_search_finds_an_unsafe_load(source: str) -> None:
    assert unsafe_loads(source)


@pytest.mark.parametrize(
    "source",
    ["torch.load(path, weights_only=True)", "numpy.load(path)", "numpy.load(path, allow_pickle=False)"],
)
def test_the_search_lets_a_safe_load_pass(source: str) -> None:
    assert unsafe_loads(source) == []


def test_nothing_is_ever_unpickled() -> None:
    found = {str(path.relative_to(REPOSITORY)): unsafe_loads(path.read_text()) for path in own_sources()}
    assert len(found) > 25
    assert {name: calls for name, calls in found.items() if calls} == {}

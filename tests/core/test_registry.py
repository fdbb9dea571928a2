"""Registries and extensions: names, order, and one-line refusals of everything that an extension can do wrong."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from core import extensions
from core.errors import Refusal
from core.extensions import EXTENSIONS, load_extension
from core.registry import Registry

REPOSITORY = Path(__file__).resolve().parents[2]
Write = Callable[..., None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a module to the working directory; what tests load is forgotten after them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for known, empty in (("EXTENSIONS", {}), ("_USED", set())):
        monkeypatch.setattr(extensions, known, empty)
    for name in ("ext_one", "ext_two", "ext_package", "ext_package.inner"):
        monkeypatch.delitem(sys.modules, name, raising=False)

    def module(name: str, text: str) -> None:
        path = tmp_path / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    return module


@pytest.fixture
def colours() -> Registry[int]:
    found: Registry[int] = Registry("colour")
    for value, name in enumerate(("red", "green", "dark-blue")):
        found.register(name)(value)
    return found


def test_entries_are_found_by_name_in_the_order_of_registration(colours: Registry[int]) -> None:
    assert colours["green"] == colours.get("green") == 1
    assert tuple(colours) == colours.names() == ("red", "green", "dark-blue")
    assert colours.values() == (0, 1, 2)
    assert dict(colours.items()) == {"red": 0, "green": 1, "dark-blue": 2}
    assert len(colours) == 3
    assert "red" in colours
    assert "pink" not in colours
    assert colours.name_of(colours["red"]) == "red"


def test_the_decorator_gives_back_what_it_registers() -> None:
    things: Registry[type] = Registry("thing")

    @things.register("a")
    class A: ...

    assert things["a"] is A
    assert things.name_of(A) == "a"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "gren",
            r"unknown colour 'gren': did you mean 'green'\? accepted are red, green, dark-blue; .*--extension",
        ),
        ("xyz", r"unknown colour 'xyz': accepted are red, green, dark-blue"),
        ("", "unknown colour '': accepted are"),
        ("GREEN", "unknown colour 'GREEN'"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_one(
    name: str, message: str, colours: Registry[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extensions, "EXTENSIONS", {})
    with pytest.raises(Refusal, match=message):
        colours.get(name)


def test_the_hint_of_an_extension_is_left_out_when_one_is_loaded(
    colours: Registry[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extensions, "EXTENSIONS", {"mine": "0" * 64})
    with pytest.raises(Refusal) as refused:
        colours.get("pink")
    assert "--extension" not in str(refused.value)


@pytest.mark.parametrize("name", ["", "Red", "dark blue", "tau=3", "é", "a\n", "a.b"])
def test_a_bad_name_is_refused(name: str, colours: Registry[int]) -> None:
    with pytest.raises(Refusal, match="a name of lower-case letters"):
        colours.register(name)
    assert len(colours) == 3


def test_what_is_not_registered_has_no_name(colours: Registry[int]) -> None:
    class Pink: ...

    with pytest.raises(Refusal, match="colour Pink is not registered"):
        colours.name_of(Pink)


@pytest.mark.parametrize("first", ["core.neurons.lif", "core.neurons.integrate_and_fire", "core.dsqn"])
def test_the_order_of_built_in_entries_does_not_depend_on_imports(first: str) -> None:
    code = f"import {first}, core.neurons.base as base; print(*base.NEURONS)"
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, check=True, capture_output=True, text=True
    ).stdout.split()
    assert shown == ["if", "lif"]


# Extensions ------------------------------------------------------------------------------------------

REGISTER = "from core.neurons.base import NEURONS\nNEURONS.register('{}')(object)\n"


def test_an_extension_is_imported_once(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    write("ext_one", "print('imported')\n")
    load_extension("ext_one")
    load_extension("ext_one")
    assert capsys.readouterr().out == "imported\n"
    assert list(extensions.EXTENSIONS) == ["ext_one"]
    assert len(extensions.EXTENSIONS["ext_one"]) == 64
    assert EXTENSIONS is not extensions.EXTENSIONS  # the fixture's own


def test_what_an_extension_consists_of_is_digested(write: Write) -> None:
    """A module by its file, a package by all its files."""
    found = []
    for lines in ("", "# changed\n", "# changed\n"):
        write("ext_one", lines)
        write("ext_package.__init__", "")
        write("ext_package.inner", lines)
        for name in ("ext_one", "ext_package", "ext_package.inner"):
            sys.modules.pop(name, None)
        extensions.EXTENSIONS.clear()
        load_extension("ext_one")
        load_extension("ext_package")
        found.append(dict(extensions.EXTENSIONS))
    before, changed, again = found
    assert changed == again
    assert extensions.changed_extensions(before) == ["ext_one", "ext_package"]
    assert extensions.changed_extensions({"ext_two": "0" * 64}) == ["ext_two"]  # others are in its place
    extensions.EXTENSIONS.clear()
    assert extensions.changed_extensions(before) == []


def test_an_extension_is_used_when_something_of_it_is(write: Write, colours: Registry[int]) -> None:
    write("ext_package.__init__", "import ext_package.inner\n")
    write("ext_package.inner", "")
    load_extension("ext_package")
    colours.register("pink")(4)
    colours._origins["pink"] = "ext_package.inner"
    assert colours["red"] == 0
    assert "pink" in colours.names()
    assert extensions.used_extensions() == {}
    assert colours["pink"] == 4
    assert list(extensions.used_extensions()) == ["ext_package"]
    # What a copy of the registry gives is of the extension too.
    extensions._USED.clear()
    assert colours.copy()["pink"] == 4
    assert list(extensions.used_extensions()) == ["ext_package"]


def test_an_extension_in_a_package_is_all_of_its_folder(write: Write) -> None:
    for name in ("ext_package.__init__", "ext_package.inner", "ext_package.other"):
        write(name, "")
    load_extension("ext_package.inner")
    assert [file.name for file in extensions.files_of("ext_package.inner")] == [
        "__init__.py",
        "inner.py",
        "other.py",
    ]
    assert extensions.extension_of("ext_package.other") == "ext_package.inner"
    assert extensions.extension_of("ext_packages") is None
    assert extensions.extension_of("ext_one") is None


def test_two_extensions_that_register_one_name_are_refused(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.neurons.base import NEURONS

    monkeypatch.setattr(NEURONS, "_entries", dict(NEURONS.items()))
    monkeypatch.setattr(NEURONS, "_origins", dict(NEURONS._origins))
    write("ext_one", REGISTER.format("twice"))
    write("ext_two", REGISTER.format("twice"))
    load_extension("ext_one")
    with pytest.raises(Refusal, match=r"'ext_two': neuron 'twice' is registered by both ext_one and ext_two"):
        load_extension("ext_two")
    assert list(extensions.EXTENSIONS) == ["ext_one"]


def test_an_extension_cannot_replace_what_is_built_in(write: Write) -> None:
    from core.neurons.base import NEURONS

    known = NEURONS["lif"]
    write("ext_one", REGISTER.format("lif"))
    with pytest.raises(Refusal, match=r"'lif' is registered by both core\.neurons\.lif and ext_one"):
        load_extension("ext_one")
    assert NEURONS["lif"] is known


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def f(:\n", r"'ext_one' cannot be imported: SyntaxError: .*line 1"),
        ("raise SystemExit(0)\n", "'ext_one' cannot be imported: SystemExit: 0"),
        ("import sys; sys.exit('gone')\n", "'ext_one' cannot be imported: SystemExit: gone"),
        ("import no_such_library\n", "'ext_one' cannot be imported: ModuleNotFoundError: .*no_such_library"),
        ("1 / 0\n", "'ext_one' cannot be imported: ZeroDivisionError"),
        ("\0", "'ext_one' cannot be imported"),
        ("from core.errors import Refusal\nraise Refusal('no')\n", "extension 'ext_one': no$"),
    ],
)
def test_an_extension_that_fails_is_refused(text: str, message: str, write: Write) -> None:
    write("ext_one", text)
    with pytest.raises(Refusal, match=message):
        load_extension("ext_one")
    assert extensions.EXTENSIONS == {}


@pytest.mark.parametrize(
    "name", ["ext_none", "ext_package.none", "", "a b", "../ext_one", "sys", "ext_one.inner"]
)
def test_an_extension_that_is_missing_is_refused(name: str, write: Write) -> None:
    write("ext_package.__init__", "")
    write("ext_one", "")
    with pytest.raises(Refusal, match="no such module in"):
        load_extension(name)
    assert extensions.EXTENSIONS == {}


def test_a_path_instead_of_a_module_is_answered_with_the_name(write: Write) -> None:
    write("ext_one", "")
    for path in ("./ext_one", "ext_one.py", "somewhere/ext_one.py"):
        with pytest.raises(Refusal, match=r"the name of a module is needed, as in --extension ext_one$"):
            load_extension(path)


def test_a_package_that_fails_around_an_extension_is_refused(write: Write) -> None:
    write("ext_package.__init__", "def f(:\n")
    write("ext_package.inner", "")
    with pytest.raises(Refusal, match=r"'ext_package\.inner' cannot be imported: SyntaxError"):
        load_extension("ext_package.inner")
    write("ext_package.__init__", "import no_such_library\n")
    with pytest.raises(Refusal, match=r"cannot be imported: ModuleNotFoundError: .*no_such_library"):
        load_extension("ext_package.inner")


@dataclass(frozen=True)
class Named:
    """An entry that knows its name, as recipes, games and protocols do."""

    name: str


def test_an_entry_with_the_name_of_another_is_refused() -> None:
    """As when a recipe is made from another one and keeps its name, which rows would hold."""
    registry: Registry[Named] = Registry("recipe")
    registry.register("usual")(Named("usual"))
    with pytest.raises(
        Refusal, match="recipe 'patient' has the name 'usual' in its fields: give it name='patient'"
    ):
        registry.register("patient")(registry["usual"])
    assert registry.names() == ("usual",)

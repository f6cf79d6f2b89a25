"""The house: lower floors never import higher ones, and ``import eyeshot`` stays light."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import eyeshot
import eyeshot.axes

PACKAGE = Path(eyeshot.__file__).parent

# From the ground up. A module may import from floors below its own, and from its own folder.
FLOORS = [
    ["errors"],
    ["language"],
    ["files", "extras", "array_likes"],
    ["__init__"],
    ["pages", "plain_yaml", "terminal"],
    ["reference", "axes"],
    ["graph", "untouched"],
    ["operators"],
    ["geometry", "interpreter"],
    ["cost"],
    ["findings"],
    ["frontends"],
    ["nets", "filters", "images", "pictures"],
    ["data"],
    ["runs"],
    ["features"],
    ["explanation"],
    ["inspection", "densification", "exporting"],
    ["planning"],
    ["engine"],
    ["evaluation"],
    ["tiling"],
    ["training"],
    ["report", "web_studio"],
    ["demo"],
    ["cli"],
    ["__main__"],
]
FLOOR_OF = {module: floor for floor, modules in enumerate(FLOORS) for module in modules}


def _modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(path: Path) -> set[str]:
    """The rooms (first name below ``eyeshot``) that a file imports, lazily or not."""
    rooms: set[str] = set()
    for node in ast.walk(_tree(path)):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [node.module]
            if node.module == "eyeshot":
                names = [f"eyeshot.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            first, _, rest = name.partition(".")
            if first == "eyeshot":
                rooms.add(rest.partition(".")[0] or "__init__")
    return {room if room in FLOOR_OF else "__init__" for room in rooms}


def test_lower_floors_never_import_higher_ones() -> None:
    for path in _modules():
        room = _room(path)
        assert room in FLOOR_OF, f"give {room!r} a floor in FLOORS"
        if room == "__init__":
            continue  # the front door names every room, for lazy look-up and for type checkers
        above = {used for used in _imports(path) - {room} if FLOOR_OF[used] >= FLOOR_OF[room]}
        assert not above, f"{path} is on floor {FLOOR_OF[room]} and imports {sorted(above)}"


def test_the_page_draws_the_floors_that_there_are() -> None:
    page = (PACKAGE.parents[1] / "docs" / "architecture.md").read_text()
    drawn = page.split("<!-- floors, from the top -->\n```text\n")[1].split("```")[0]
    floors = [line[:36].split() for line in drawn.splitlines()]
    assert floors == FLOORS[::-1]
    assert {room for floor in floors for room in floor} == {_room(path) for path in _modules()}


_NETWORK = {"aiohttp", "fsspec", "ftplib", "http", "httpx", "requests", "socket", "urllib.request"}
_MAY_CONNECT = {
    "images/sources/remote.py": {"aiohttp", "fsspec"},  # which asks the URL that the user gives
    "data/mnist.py": {"http.client", "urllib.request"},
    "web_studio/server.py": {"socket"},  # which listens
}
"""What SECURITY.md says of the network, file by file."""


def test_only_these_files_know_the_network() -> None:
    used: dict[str, set[str]] = {}
    for path in _modules():
        names = {name for name in _imported(path) if _is_of(name, _NETWORK)}
        if names:
            used[path.relative_to(PACKAGE).as_posix()] = names
    assert used == _MAY_CONNECT


def _imported(path: Path) -> set[str]:
    """The full names of the modules that a file imports."""
    names: set[str] = set()
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _is_of(name: str, modules: set[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def test_nothing_is_unpickled() -> None:
    unpicklers = {"cloudpickle", "dill", "joblib", "marshal", "shelve"}
    for path in _modules():
        assert not any(_is_of(name, unpicklers) for name in _imported(path)), path
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pickle":
                assert node.attr == "UnpicklingError", f"{path}:{node.lineno}"
            if isinstance(node, ast.Call):
                options = {word.arg: ast.unparse(word.value) for word in node.keywords}
                name = ast.unparse(node.func)
                if name in ("torch.load", "np.load"):
                    safe = {
                        "torch.load": ("weights_only", "True"),
                        "np.load": ("allow_pickle", "False"),
                    }
                    option, value = safe[name]
                    assert options.get(option) == value, f"{path}:{node.lineno}"
                assert name not in ("torch.jit.load", "torch.export.load", "torch.hub.load"), path


def test_importing_eyeshot_does_not_import_torch() -> None:
    code = "import sys, eyeshot, eyeshot.cli; print('torch' in sys.modules, 'cv2' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.split() == ["False", "False"], result.stderr


def test_no_module_imports_what_takes_a_third_of_a_second_and_few_need() -> None:
    slow = ("sympy", "torch._dynamo", "torch.fx.experimental.symbolic_shapes")
    for path in _modules():
        for node in _tree(path).body:
            if isinstance(node, ast.ImportFrom | ast.Import):
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                names += [alias.name for alias in node.names]
                assert not set(names) & set(slow), f"{path}:{node.lineno}: import it late"


def test_every_public_name_can_be_had() -> None:
    assert eyeshot.__all__ == sorted(eyeshot.__all__)
    for name in eyeshot.__all__:
        assert getattr(eyeshot, name) is not None


TRANSLATE = ("operators", "frontends")
"""Rooms whose business the names are."""


def test_nobody_asks_for_an_operator_by_its_name() -> None:
    for path in (one for one in _modules() if _room(one) not in TRANSLATE):
        asked = _operator_names(_tree(path))
        assert not asked, f"{path}:{asked[0]}: ask for node.family in place of node.operator"


def _operator_names(tree: ast.Module) -> list[int]:
    """The lines that compare an ``operator``, call a method of it, or look it up in a table."""
    found = []
    for node in ast.walk(tree):
        asked: list[ast.expr] = []
        if isinstance(node, ast.Compare):
            asked = [node.left, *node.comparators]
        elif isinstance(node, ast.Attribute):
            asked = [node.value]
        elif isinstance(node, ast.Subscript):
            asked = [node.slice]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            asked = node.args if node.func.attr == "get" else []
        named = [isinstance(one, ast.Attribute) and one.attr == "operator" for one in asked]
        if any(named) and not (isinstance(node, ast.Compare) and all(named)):
            found.append(asked[0].lineno)
    return found


def test_an_operator_asked_for_by_its_name_is_noticed() -> None:
    for line in (
        "one.operator == 'x'",
        "'x' in one.operator",
        "one.operator in ('x',)",
        "one.operator.startswith('x')",
        "TABLE[one.operator]",
        "TABLE.get(one.operator, None)",
    ):
        assert _operator_names(ast.parse(line)), line
    for line in ("f'{one.operator}'", "print(one.operator)", "one.operator == other.operator"):
        assert not _operator_names(ast.parse(line)), line


OUTSIDE = [PACKAGE.parents[1] / name for name in ("tools", "benchmarks", "examples")]


KNOWS_ITS_MAPS = ("axes", "operators")
"""An operator made its maps, so it may look at them; all others ask what they answer."""


def test_nobody_looks_at_the_type_of_an_axis_map() -> None:
    maps = {
        name
        for name in eyeshot.axes.__all__
        if isinstance(getattr(eyeshot.axes, name), type)
        and hasattr(getattr(eyeshot.axes, name), "first_needed")
    }
    assert "Window" in maps
    for path in (one for one in _modules() if _room(one) not in KNOWS_ITS_MAPS):
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance":
                named = {one.id for one in ast.walk(node.args[1]) if isinstance(one, ast.Name)}
                assert not named & maps, f"{path}:{node.lineno}: ask the axis map, not its type"


def test_pillow_opens_files_in_one_place_alone() -> None:
    """It is given a list of formats there: left alone, it hands an EPS called .jpg to a program."""
    files = [*_modules(), *(path for folder in OUTSIDE for path in folder.rglob("*.py"))]
    found = [str(path) for path in files if _opens_by_pillow(path)]
    assert found == [str(PACKAGE / "images" / "whole.py")]


def _opens_by_pillow(path: Path) -> bool:
    calls = [node.func for node in ast.walk(_tree(path)) if isinstance(node, ast.Call)]
    return any(
        isinstance(call, ast.Attribute)
        and call.attr == "open"
        and isinstance(call.value, ast.Name)
        and call.value.id in ("Image", "PIL")
        for call in calls
    )


def test_the_version_is_written_once() -> None:
    project = tomllib.loads((PACKAGE.parents[1] / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert "version" not in project["project"]
    place = PACKAGE.parents[1] / project["tool"]["hatch"]["version"]["path"]
    assert f'__version__ = "{eyeshot.__version__}"' in place.read_text()


def test_nobody_meets_words_that_are_not_said_today() -> None:
    old = re.compile(r"\b(nought|anew|whoever|wanted of|gone on with|as good as)\b", re.IGNORECASE)
    root = PACKAGE.parents[1]
    pages = [*(root / "docs").glob("*.md"), root / "README.md", root / "CHANGELOG.md"]
    found = [
        f"{path.name}:{number}: {line.strip()}"
        for path in (*_modules(), *pages)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if old.search(line)
    ]
    assert not found, "\n".join(found)


def test_the_spelling_is_american() -> None:
    british = re.compile(
        r"colour|\bgrey|neighbour|centre|labelled|behaviour|licence|judgement|normalis|optimis"
        r"|initialis|recognis|quantis|summaris|standardis",
        re.IGNORECASE,
    )
    root = PACKAGE.parents[1]
    pages = [*root.glob("*.md"), *(root / "docs").rglob("*.md"), *(root / "examples").glob("*.py")]
    found = [
        f"{path.name}:{number}: {line.strip()}"
        for path in (*_modules(), *pages)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if british.search(line)
    ]
    assert not found, "\n".join(found)

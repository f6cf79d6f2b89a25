"""What is public, and the manners that every public function keeps."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn
from typer.main import get_command

import eyeshot
from eyeshot import cli
from eyeshot.errors import BadValue
from tests.documents import PAGES

PACKAGES = [
    "eyeshot",
    *(
        f"eyeshot.{module.name}"
        for module in pkgutil.iter_modules(eyeshot.__path__)
        if module.name != "__main__"
    ),
]
MOST_BY_PLACE = 4  # main arguments; PyTorch's own order for conv has three and a bias


def _public() -> dict[str, Callable[..., Any]]:
    """Every function that some ``__all__`` offers, by its name, without ``main`` and its like."""
    found: dict[str, Callable[..., Any]] = {}
    for name in PACKAGES:
        module = importlib.import_module(name)
        for public in getattr(module, "__all__", []):
            value = getattr(module, public)
            if inspect.isfunction(value):
                found[f"{name}.{public}"] = value
    return found


FUNCTIONS = _public()
TOP = [name for name in eyeshot.__all__ if inspect.isfunction(getattr(eyeshot, name))]
PAGES_TEXT = "\n".join(page.read_text() for page in PAGES)


def of_each(names: Iterable[str]) -> Callable[[Callable[[str], None]], Callable[[], None]]:
    """One test of many names: a test each would be a thousand."""

    def decorate(check: Callable[[str], None]) -> Callable[[], None]:
        def test() -> None:
            for name in names:
                try:
                    check(name)
                except AssertionError as error:
                    error.add_note(f"of {name}")
                    raise

        test.__doc__ = check.__doc__
        return test

    return decorate


def test_functions_are_found() -> None:
    assert {"eyeshot.train", "eyeshot.reference.conv", "eyeshot.filters.filter"} <= set(FUNCTIONS)


@of_each(PACKAGES)
def test_all_is_sorted_and_true(package: str) -> None:
    module = importlib.import_module(package)
    names = getattr(module, "__all__", None)
    if names is None:
        return
    assert sorted(names, key=_as_ruff_sorts) == list(names)
    assert len(set(names)) == len(names)
    for name in names:
        assert hasattr(module, name)


def _as_ruff_sorts(name: str) -> tuple[int, str]:
    """CONSTANTS, then Classes, then functions."""
    kind = 0 if name.isupper() else 1 if name[0].isupper() else 2
    return kind, name


def test_the_front_door_is_typed_as_it_is_looked_up() -> None:
    """A name for type checkers and for look-up: one list, kept twice."""
    tree = ast.parse(inspect.getsource(eyeshot))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    typed = {alias.asname for node in imports for alias in node.names}
    assert typed == set(eyeshot.__all__)


@of_each(FUNCTIONS)
def test_options_are_named(name: str) -> None:
    """A few main arguments by place; a switch or a mode is never ``True`` in the dark."""
    parameters = inspect.signature(FUNCTIONS[name]).parameters.values()
    by_place = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert len(by_place) <= MOST_BY_PLACE
    for parameter in by_place:
        assert not isinstance(parameter.default, bool), f"{parameter.name}: put it after a *"


@of_each(FUNCTIONS)
def test_all_is_typed(name: str) -> None:
    signature = inspect.signature(FUNCTIONS[name])
    assert signature.return_annotation is not inspect.Signature.empty
    for parameter in signature.parameters.values():
        assert parameter.annotation is not parameter.empty, parameter.name


@of_each(FUNCTIONS)
def test_the_docstring_says_what_it_raises(name: str) -> None:
    function = FUNCTIONS[name]
    doc = inspect.getdoc(function) or ""
    assert doc.split("\n")[0].endswith((".", ":", "?", "…")), "no summary line"
    raised = _raised(function)
    section = doc.partition("Raises:")[2]
    assert all(error in section for error in raised), f"{sorted(raised)} not in Raises:"


@of_each(TOP)
def test_the_arguments_of_the_front_door_are_explained(name: str) -> None:
    function = getattr(eyeshot, name)
    doc = inspect.getdoc(function) or ""
    arguments = doc.partition("Args:")[2]
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is not parameter.VAR_KEYWORD:
            assert re.search(rf"\b{parameter.name}\b", arguments), parameter.name


@of_each(eyeshot.__all__)
def test_the_front_door_is_on_a_page(name: str) -> None:
    assert re.search(rf"`eyeshot\.{name}`", PAGES_TEXT)


@of_each(TOP)
def test_what_the_front_door_returns_is_public(name: str) -> None:
    """Anyone who calls it can write down the type of the answer."""
    function = getattr(eyeshot, name)
    home = importlib.import_module(function.__module__)
    words = re.findall(r"[A-Z]\w+", str(inspect.signature(function).return_annotation))
    ours = {word for word in words if _is_ours(getattr(home, word, None))}
    assert ours <= {*eyeshot.__all__}


def _is_ours(value: object) -> bool:
    return inspect.isclass(value) and value.__module__.startswith("eyeshot")


@of_each(["reference", "images"])
def test_public_functions_are_on_a_page(package: str) -> None:
    module = getattr(eyeshot, package)
    functions = [n for n in module.__all__ if inspect.isfunction(getattr(module, n))]
    missing = [name for name in functions if not re.search(rf"\b{name}\b", PAGES_TEXT)]
    assert not missing


OTHER_SPELLINGS = {"as_dict", "to_json"}


def test_plain_data_has_one_name() -> None:
    """``to_dict()`` of whatever is printed as JSON."""
    names = {
        node.name
        for path in Path(eyeshot.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    assert "to_dict" in names
    assert not names & OTHER_SPELLINGS


def test_what_is_written_is_named_by_out_in_every_command() -> None:
    found = [
        (command.name, parameter.opts)
        for command in get_command(cli.app).commands.values()  # type: ignore[attr-defined]
        for parameter in command.params
        if {"-o", "--out", "--output"} & {*parameter.opts}
    ]
    assert len(found) > 5
    assert [one for one in found if sorted(one[1]) != ["--out", "-o"]] == []


def _raised(function: Callable[..., Any]) -> set[str]:
    """The errors of ours that the function's own body raises."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    calls = [n.exc for n in ast.walk(tree) if isinstance(n, ast.Raise)]
    names = {c.func.id for c in calls if isinstance(c, ast.Call) and isinstance(c.func, ast.Name)}
    return {name for name in names if name in vars(eyeshot.errors)}


TAKE_A_NETWORK: dict[str, Callable[[Any], object]] = {
    "run": lambda net: eyeshot.run(net, np.zeros((1, 8, 8))),
    "plan": lambda net: eyeshot.plan(net, np.zeros((1, 8, 8))),
    "trace": eyeshot.trace,
    "inspect": lambda net: eyeshot.inspect(net, (1, 8, 8)),
    "receptive_field": lambda net: eyeshot.receptive_field(net, (1, 8, 8)),
    "see": lambda net: eyeshot.see(net, np.zeros((1, 8, 8))),
    "explain": lambda net: eyeshot.explain(net, np.zeros((1, 8, 8)), layer="", unit=(0, 0, 0)),
    "dense": lambda net: eyeshot.dense(net, (1, 8, 8)),
    "export": lambda net: eyeshot.export(net, "net.onnx", size=(1, 8, 8)),
    "audit": lambda net: eyeshot.audit(net, tile=8, overlap=2, size=(1, 32, 32)),
    "output_geometry": eyeshot.output_geometry,
}


@pytest.mark.parametrize("name", TAKE_A_NETWORK)
def test_what_is_no_network_is_refused_in_one_line(name: str) -> None:
    others: dict[str, Any] = {"no network": {}, "is a class": nn.ReLU, "is a path": "net.onnx"}
    if name == "explain":
        del others["is a path"]  # of a run
    for reported, other in others.items():
        with pytest.raises(BadValue, match=reported):
            TAKE_A_NETWORK[name](other)

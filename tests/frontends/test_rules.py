"""Every operator of the table, used in a network and poked: no input too few and none too many."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from eyeshot.frontends.torch import graph_of
from eyeshot.graph import Graph
from eyeshot.operators import OPERATORS
from eyeshot.operators.module_calls import NAME as CALL_OF_A_MODULE
from tests.frontends.menus import GIVE_BACK, MENUS, STRUCTURAL
from tests.frontends.poking import (
    Apply,
    Table,
    check,
    menu_of,
    table_predicted,
    tables_by_poking,
)

# Numbers at which some operator changes its mind: beyond one, below zero, zero, not a number.
_TELLING = (1.9, -0.7, 0.0, 3.2, float("nan"), float("inf"))


@dataclass(frozen=True)
class Poked:
    """One menu, exported and poked."""

    graph: Graph
    names: list[str]
    tables: list[Table]


@functools.cache
def poked(menu: str) -> Poked:
    dishes, size = MENUS[menu]
    net = menu_of(dishes)
    graph = graph_of(net, size)
    if menu in ("numbers", "boolean"):
        base = torch.full((1, *size), 0.5, dtype=torch.float64)
        tables = tables_by_poking(net, graph, size, base, _TELLING)
    else:
        noise = torch.Generator().manual_seed(1)
        base = torch.rand(1, *size, dtype=torch.float64, generator=noise) + 0.5
        tables = tables_by_poking(net, graph, size, base, (10.0, -10.0))
    return Poked(graph, list(dishes), tables)


CASES = [(menu, name) for menu, (dishes, _) in MENUS.items() for name in dishes]


@pytest.mark.parametrize(("menu", "name"), CASES, ids=[f"{menu}-{name}" for menu, name in CASES])
def test_what_a_rule_says_is_what_poking_finds(menu: str, name: str) -> None:
    done = poked(menu)
    at = done.names.index(name)
    node = done.graph[done.graph.outputs[at]]
    assert node.operator == name.partition(":")[0].partition(".")[0]
    assert node.kind != "unsupported", node.reason
    predicted = table_predicted(done.graph, node)
    if name in STRUCTURAL:
        assert not done.tables[at].any()  # named, and truly of no influence
    else:
        assert (predicted == done.tables[at]).all(), np.argwhere(predicted != done.tables[at])[:4]


@pytest.mark.parametrize("name", GIVE_BACK)
def test_operators_that_may_give_back_their_input(name: str) -> None:
    graph = check(Apply(GIVE_BACK[name]).eval(), 2, 4)
    assert [node.operator for node in graph] == ["input", name, "add"]


def test_every_rule_of_the_table_is_poked() -> None:
    covered = {name.partition(":")[0] for _, name in CASES} | set(GIVE_BACK)
    covered.add(CALL_OF_A_MODULE)  # of no table: tests/engine/test_module_calls.py
    rules = {name for name, one in OPERATORS.items() if one.geometry is not None}
    assert rules - covered == set()
    assert {name for name in covered if name not in rules} == set()

"""The tables of ``docs/operators.md``, made from the code.

    python -m tools.list_operators          write them into the page
    python -m tools.list_operators --check  exit status 1 if the page says something else

What an operator does to positions depends on how it is called, so each is asked in use: every
operator of the table stands in a network of ``tests/frontends/menus.py``, which is traced, and the
kinds of its nodes are what the table says. ONNX operators are those that the reader translates.
"""

from __future__ import annotations

import argparse
import functools
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from tests.frontends.menus import GIVE_BACK, MENUS, Dishes
from tests.frontends.poking import Apply, menu_of
from torch import nn

from eyeshot.axes import Broadcast, Identity
from eyeshot.frontends import onnx
from eyeshot.frontends.torch import graph_of
from eyeshot.graph import Family, Kind, Node
from eyeshot.operators import OPERATORS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "operators.md"
MARKS = ("<!-- tables: python -m tools.list_operators -->\n", "<!-- end of the tables -->\n")


def _read(x: torch.Tensor, layer: nn.Module) -> torch.Tensor:
    """A line read by a recurrent layer."""
    read: torch.Tensor = layer(x.mean(2).transpose(1, 2))[0]
    return read


BOTH_WAYS: Dishes = {
    "sum": lambda x: x.sum(1, keepdim=True),
    "amax": lambda x: x.amax(1, keepdim=True),
    "amin": lambda x: x.amin((2, 3), keepdim=True),
    "var": lambda x: x.var(1, keepdim=True),
    "std": lambda x: x.std(1, keepdim=True),
    "norm": lambda x: torch.linalg.vector_norm(x, dim=1, keepdim=True),
    "argmax": lambda x: x.argmax(2, keepdim=True),
    "rms_norm": lambda x: F.rms_norm(x, x.shape[2:]),
    "scan": lambda x: x.cumsum(2),
    "sort": lambda x: x.sort(2)[0],
    "recurrence": Apply(_read, nn.GRU(2, 2, batch_first=True, bidirectional=True)),
    "roll": lambda x: x.roll(1, 2),
    "index": lambda x: x[:, :, [1, 0]],
}
"""Over channels what the menus do over positions, and the other way round."""
ORDER = ("local", "windowed", "statistic", "held")


def use_of(node: Node) -> str:
    """How a run treats this call: local, windowed, statistic or held."""
    if node.kind is Kind.GLOBAL_STATISTIC:
        return "statistic"
    if node.kind is not Kind.LOCAL:
        return "held"
    alone = all(isinstance(one, Identity | Broadcast) for edge in node.edges for one in edge.axes)
    return "local" if alone else "windowed"


def uses() -> dict[Family, set[str]]:
    """For each family, the ways in which the calls of the menus are treated."""
    found: dict[Family, set[str]] = defaultdict(set)
    for dishes, size in (*MENUS.values(), (dict(GIVE_BACK), (2, 4)), (BOTH_WAYS, (2, 4, 6))):
        graph = graph_of(menu_of(dict(dishes)), size)
        for node in graph:
            found[node.family].add(use_of(node))
    return found


def _names(names: list[str]) -> str:
    return " ".join(f"`{name}`" for name in sorted({*names}))


def torch_rows() -> Iterator[str]:
    """A row for each family of torch's operators, and one for those without a rule."""
    called: dict[Family, list[str]] = defaultdict(list)
    held: list[str] = []
    for name, record in OPERATORS.items():
        if "::" in name or record.family is Family.INPUT:
            continue  # registered by its owner
        plain = name.partition(".")[0]
        (called[record.family] if record.geometry is not None else held).append(plain)
    treated = uses()
    for family, names in called.items():
        how = ", ".join(one for one in ORDER if one in treated[family])
        yield f"| {family} | {how} | {_names(names)} |"
    yield f"| without a rule | held | {_names(held)}, and every operator that is not listed |"


def onnx_rows() -> Iterator[str]:
    """A row for each group of ONNX's operators, and one for each reason against some."""
    for title, group in onnx.GROUPS.items():
        yield f"| {title} | {_names(list(group))} |"
    against: dict[str, list[str]] = defaultdict(list)
    for name, (reason, _) in onnx.REASONS.items():
        against[reason].append(name)
    for reason, names in against.items():
        yield f"| refused: {reason} | {_names(names)} |"


@functools.cache
def tables() -> str:
    """Both tables, with what a reader needs to know about their columns."""
    return "\n".join(
        [
            "",
            "| PyTorch | in a run | operators |",
            "|---|---|---|",
            *torch_rows(),
            "",
            "| ONNX | operators |",
            "|---|---|",
            *onnx_rows(),
            "",
            "",
        ]
    )


def written(page: str) -> str:
    """The page with the tables as the code makes them."""
    before, _, rest = page.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    return before + MARKS[0] + tables() + MARKS[1] + after


def main() -> int:
    """Write the page, or check it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    page = PAGE.read_text()
    new = written(page)
    if check:
        return int(new != page)
    PAGE.write_text(new)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""The bytes that a pass holds, counted by hand where the operators themselves take none."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from eyeshot.axes import Interval
from eyeshot.frontends.torch import graph_of
from eyeshot.geometry.tiles import required
from eyeshot.graph import Node
from eyeshot.planning.holding import Costs, Holding


class Free:
    """Nothing is needed beside the rows."""

    fixed = 0

    def opening(self) -> int:
        return 0

    def writing(self, name: str, columns: int) -> int:
        return 0

    def packing(self, name: str, columns: int) -> int:
        return 0

    def reading(self, name: str, shape: tuple[int, ...]) -> int:
        return 0

    def entered(self, name: str, shape: tuple[int, ...]) -> int:
        return 0

    def leaving(self, name: str, numbers: int) -> int:
        return 0

    def written_behind(self, name: str, columns: int, numbers: int) -> int:
        return 0

    def scratch(
        self,
        node: Node,
        sources: Sequence[Node],
        reads: Sequence[int],
        gives: int,
        keeps_output: bool,
    ) -> int:
        return 0

    def borrows(self, node: Node) -> bool:
        return False


class Packing(Free):
    """An output that takes memory only while rows are written, and a convolution its scratch."""

    def __init__(self, packing: int, scratch: int) -> None:
        self._packing, self._scratch = packing, scratch

    def packing(self, name: str, columns: int) -> int:
        return self._packing

    def scratch(
        self,
        node: Node,
        sources: Sequence[Node],
        reads: Sequence[int],
        gives: int,
        keeps_output: bool,
    ) -> int:
        return self._scratch


def test_an_output_packs_when_no_node_is_computed() -> None:
    """The two were added to each other: volumes to Zarr were promised a sixth more."""
    net = nn.Conv2d(1, 1, 3, padding=1)
    small, packing = _peak(net, 40, 4, Packing(0, 0)), _peak(net, 40, 4, Packing(10**7, 0))
    assert 10**7 <= packing <= 10**7 + small
    assert _peak(net, 40, 4, Packing(10**7, 10**7)) <= 10**7 + small


class Behind(Packing):
    """Rows are written while others are computed."""

    def written_behind(self, name: str, columns: int, numbers: int) -> int:
        return self._packing


def test_rows_are_written_while_nodes_are_computed() -> None:
    net = nn.Conv2d(1, 1, 3, padding=1)
    small = _peak(net, 40, 4, Packing(0, 0))
    assert 2 * 10**7 <= _peak(net, 40, 4, Behind(10**7, 10**7)) <= 2 * 10**7 + small


def _peak(net: nn.Module, rows: int, band: int, costs: Costs | None = None) -> int:
    """Bytes held at most over a picture of 4 columns, all of it asked for."""
    graph = graph_of(net.eval(), (1, rows, 4))
    name = graph.outputs[0]
    regions = {name: tuple(Interval(0, n) for n in graph.nodes[name].extents)}
    return Holding(graph, regions, required(graph, regions), band, costs or Free()).peak


def test_rows_written_in_one_piece_are_not_joined() -> None:
    """What is read, and what is given: 8 rows of 4 floats in 1 and in 2 channels, each once."""
    read, gives = 8 * 4 * 4, 8 * 4 * 2 * 4
    assert _peak(nn.Conv2d(1, 2, 1), rows=8, band=8) == read + gives

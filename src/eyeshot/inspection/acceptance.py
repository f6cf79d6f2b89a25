"""Which input sizes a network accepts, and the nearest ones, found by trying sizes.

A size is tried on the axis maps if they give the extent for every size. Some operators contain
numbers that belong to the traced size (a reshape, a crop to a skip's size). For these, the network
itself is run at that size, on tensors with shapes but no memory. The maps' results are also
compared with the network at a few sizes, because ``forward`` may check sizes and raise an error.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from torch import nn

from eyeshot.frontends.aliasing import hushed
from eyeshot.frontends.trials import runs_on_shapes
from eyeshot.geometry import Fields
from eyeshot.geometry.sizes import certainly_takes
from eyeshot.graph import Graph
from eyeshot.language import mark, tr


@dataclass(slots=True)
class Trial:
    """Tries sizes along one axis, each once.

    The first size that the maps refuse is also tried on the network. If the network accepts it, the
    maps are not used any more: such a network pads its input only if it must, so its trace at
    another size has no padding. Nor are they used if ``forward`` refuses a size that its layers
    accept (:meth:`agrees`).

    Attributes:
        graph: the network at the traced size.
        axis: the axis along which sizes are tried.
        run: runs the network with this number of positions; None for an exported program.
        answers: by size, whether it is accepted.
        ran: the number of sizes at which the network itself was run.
        believed: whether the maps are trusted; None if this has not been tested.
    """

    graph: Graph
    axis: int
    run: Callable[[int], bool] | None
    answers: dict[int, bool] = field(default_factory=dict)
    ran: int = 0
    believed: bool | None = None

    @property
    def requested(self) -> int:
        """The size that the graph was traced at."""
        return self.graph.nodes[self.graph.inputs[0]].extents[self.axis]

    def accepts(self, n: int) -> bool:
        """Whether the network takes n positions along this axis."""
        if n < 1:
            return False
        if n not in self.answers:
            accepted = self._by_maps(n)
            if accepted is None:
                self.ran += 1
                accepted = self.run is not None and self.run(n)
            self.answers[n] = accepted
        return self.answers[n]

    def agrees(self, sizes: Iterable[int]) -> bool:
        """Whether the network accepts exactly those of these sizes that the maps accept.

        If it does not, the maps are not trusted from then on, and all answers are discarded.
        """
        if self.run is None or self.believed is False or not self.run(self.requested):
            return True
        for n in sorted(set(sizes)):
            self.ran += 1
            if n > 0 and self.run(n) != self.accepts(n):
                self.believed = False
                self.answers.clear()
                return False
        return True

    def _by_maps(self, n: int) -> bool | None:
        if self.believed is False:
            return None
        accepted = certainly_takes(self.graph, self.axis, n)
        if accepted is False and self.believed is None and self.run is not None:
            self.believed = not self.run(n)
            if not self.believed:
                self.answers.clear()
        return accepted if self.believed is not False else None


def runner(graph: Graph, net: nn.Module | None, axis: int) -> Callable[[int], bool] | None:
    """A function that runs the network with n positions along ``axis``, without memory."""
    if net is None:
        return None
    shape = graph.nodes[graph.inputs[0]].shape
    place = graph.nodes[graph.inputs[0]].dims[axis] or 0
    runs = runs_on_shapes(net)
    return lambda n: runs([n if dim == place else extent for dim, extent in enumerate(shape)])


_LARGEST_STEP = 512
_MOST_RUNS = 32
_MOST_STEPS = 64
_SIZES_ABOVE = 8
_USUAL_STEPS: tuple[int, ...] = (*range(2, 17), 20, 24, 28, 32, 40, 48, 56, 64, 96, 112, 128, 224)


@dataclass(frozen=True, slots=True)
class AcceptedSizes:
    """The sizes accepted along one axis, with the other axes at the requested size.

    Attributes:
        axis: the index of the axis.
        requested: the requested size.
        words: the accepted sizes as text, such as ``every size from 32 on``.
        step: the distance between accepted sizes; None if they have no fixed distance.
        smallest: the smallest accepted size; None if it is not known.
        largest: the largest accepted size; None if there is no limit.
        nearest: the nearest accepted sizes below and above the requested one; None if none was
            found.
        tried: the number of sizes that were tried.
        how: by which method: the axis maps, or running the network on shapes alone.
    """

    axis: int
    requested: int
    words: str
    step: int | None
    smallest: int | None
    largest: int | None
    nearest: tuple[int | None, int | None]
    tried: int
    how: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "axis": self.axis,
            "asked": self.requested,
            "words": self.words,
            "step": self.step,
            "smallest": self.smallest,
            "largest": self.largest,
            "nearest": list(self.nearest),
            "tried": self.tried,
            "how": self.how,
        }


def accepted_sizes(
    graph: Graph, net: nn.Module | None, fields: Fields
) -> tuple[AcceptedSizes, ...]:
    """The sizes accepted along each spatial axis of a network with one input.

    Empty for a network with several inputs, and for one that cannot be run again (an exported
    program) if the axis maps alone do not suffice.
    """
    if len(graph.inputs) != 1:
        return ()
    by_axis = []
    with hushed():  # once for all trials
        for axis in range(graph.spatial_axes):
            trial = Trial(graph, axis, runner(graph, net, axis))
            if not _can_be_tried(trial):
                return ()
            by_axis.append(_survey(trial, _step(graph, fields, axis)))
    return tuple(by_axis)


def _can_be_tried(trial: Trial) -> bool:
    """Whether the maps suffice, or the network runs on shapes alone at the traced size."""
    if certainly_takes(trial.graph, trial.axis, trial.requested + 1) is not None:
        return True
    return trial.run is not None and trial.run(trial.requested)


def _step(graph: Graph, fields: Fields, axis: int) -> int:
    """The product of the strides, as far as the fields know them."""
    periods = [
        phases[axis].inputs  # type: ignore[union-attr]
        for node in graph
        if (phases := fields.phases(node.name)) and phases[axis] is not None
    ]
    step = math.lcm(*periods) if periods else 1
    return step if step <= _LARGEST_STEP else max(periods)


def _survey(trial: Trial, step: int) -> AcceptedSizes:
    """The sizes that the maps accept; if the network disagrees, by running the network."""
    answer = _by_trials(trial, step)
    if trial.believed is False:  # since one of these trials: those before it were by the maps
        answer = _by_trials(trial, step)
    below, above = answer.nearest
    looked_at = {trial.requested + 1, trial.requested + (answer.step or 1), 4 * trial.requested}
    looked_at |= {n for n in (below, above, answer.smallest, answer.largest) if n is not None}
    return answer if trial.agrees(looked_at) else _by_trials(trial, step)


def _by_trials(trial: Trial, step: int) -> AcceptedSizes:
    """Try the neighbors, then find the smallest and, where there is one, the largest."""
    requested = trial.requested
    apart = _apart(trial, step)
    if apart is None:
        return _only_a_range(trial, step)
    others = apart if not trial.ran else min(apart, _MOST_RUNS)
    remainders = sorted(
        {n % apart for n in range(requested, requested + others) if trial.accepts(n)}
    )
    if len(remainders) == apart:
        apart = others = 1
    smallest, largest = _smallest(trial, apart, others), _largest(trial, apart)
    range_ = tr("from {smallest} on", smallest=smallest)
    if largest is not None:
        range_ = tr("from {smallest} to {largest}", smallest=smallest, largest=largest)
    if apart == 1:
        words = tr("every size {range}", range=range_)
    elif remainders == [0]:
        words = tr("multiples of {n} {range}", n=apart, range=range_)
    else:
        listed = functools.reduce(
            lambda front, last: tr("{front} or {last}", front=front, last=last),
            map(str, remainders),
        )
        text = mark("sizes that leave {remainders} when divided by {n}, {range}")
        words = tr(text, remainders=listed, n=apart, range=range_)
    below = (n for n in range(requested - 1, requested - others - 1, -1) if trial.accepts(n))
    above = (n for n in range(requested + 1, requested + others) if trial.accepts(n))
    next_above = requested + apart if largest is None or requested < largest else None
    nearest = next(below, None), next(above, next_above)
    return _answer(trial, words, apart, (smallest, largest), nearest)


def _apart(trial: Trial, step: int) -> int | None:
    """The smallest distance at which sizes are accepted repeatedly; None if there is none.

    It divides the product of the strides, as far as these are known. If ``forward`` itself checks
    sizes, the distance may be another one.
    """
    requested = trial.requested
    divisors = [d for d in range(1, step + 1) if step % d == 0]
    for one in divisors:
        if trial.accepts(requested + one):
            if trial.accepts(requested + 3 * step + one):
                return one
            break
    # A network may accept no size larger than the requested one.
    for way, steps in ((1, _USUAL_STEPS), (-1, (1, *_USUAL_STEPS))):
        for usual in steps:
            if all(trial.accepts(requested + times * way * usual) for times in (1, 2, 3)):
                return usual
    return None


def _smallest(trial: Trial, apart: int, others: int) -> int:
    """The smallest size from which on all sizes with an accepted remainder are accepted."""
    starts = [
        _smallest_with(trial, apart, trial.requested + k)
        for k in range(others)
        if trial.accepts(trial.requested + k)
    ]
    after = max(starts) - apart  # refused, or below 1
    return min(start + max(0, (after - start) // apart + 1) * apart for start in starts)


def _smallest_with(trial: Trial, apart: int, one: int) -> int:
    """The smallest size one - k * apart, assuming that the sizes above it are accepted.

    Sizes just above it are tried: a smaller size may be accepted by chance, because a map of one
    position is broadcast.
    """
    rest = one % apart
    low, high = 0, one // apart
    top = high
    while True:
        while low < high:
            middle = (low + high) // 2
            if trial.accepts(rest + middle * apart):
                high = middle
            else:
                low = middle + 1
        above = range(low + 1, min(low + 1 + _SIZES_ABOVE, top))
        refused = [k for k in above if not trial.accepts(rest + k * apart)]
        if not refused:
            return rest + low * apart
        low, high = refused[-1] + 1, top


def _largest(trial: Trial, apart: int) -> int | None:
    """The largest accepted size requested + k * apart; None if four times the size is accepted."""
    requested = trial.requested
    beyond = 3 * requested // apart + 1
    if trial.accepts(requested + beyond * apart):
        return None
    within = 0
    while beyond - within > 1:
        middle = (within + beyond) // 2
        if trial.accepts(requested + middle * apart):
            within = middle
        else:
            beyond = middle
    return requested + within * apart


def _only_a_range(trial: Trial, step: int) -> AcceptedSizes:
    requested = trial.requested
    most = min(4 * step, _MOST_STEPS)
    larger = takewhile(trial.accepts, range(requested + 1, requested + most + 1))
    smaller = takewhile(trial.accepts, range(requested - 1, requested - most - 1, -1))
    largest, smallest = max(larger, default=requested), min(smaller, default=requested)
    words = (
        tr("{n} alone", n=requested)
        if smallest == largest
        else tr("{smallest} to {largest} only", smallest=smallest, largest=largest)
    )
    nearest = (
        requested - 1 if smallest < requested else None,
        requested + 1 if largest > requested else None,
    )
    return _answer(trial, words, None, (smallest, largest), nearest)


def _answer(
    trial: Trial,
    words: str,
    step: int | None,
    ends: tuple[int, int | None],
    nearest: tuple[int | None, int | None],
) -> AcceptedSizes:
    how = tr("the axis maps")
    if trial.believed is not False and trial.ran < len(trial.answers):
        how = tr("the axis maps, and the network run on shapes alone")
    elif trial.ran:
        how = tr("the network run on shapes alone")
        if trial.believed is not False and trial.ran < len(trial.answers):
            how = tr("the network run on shapes alone, and its maps")
    tried = len(trial.answers)
    return AcceptedSizes(trial.axis, trial.requested, words, step, *ends, nearest, tried, how)

"""What is known of one operator, in one record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from eyeshot.graph import Family, Node
from eyeshot.operators.call import Tensors
from eyeshot.operators.effort import Effort, Shapes, no_effort, one_each
from eyeshot.operators.repaired import Repair
from eyeshot.operators.scratch import Work, called, nothing_more
from eyeshot.operators.site import Rule
from eyeshot.operators.tile import Computation


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator, or several that differ in nothing but their names.

    Attributes:
        names: without library and overload, separated by spaces. A name with its overload
            (``max.other``) is asked for before the name alone.
        family: what it is; what the rest of the house asks for.
        geometry: what it does to positions; None where nothing can be claimed.
        compute: makes its computation on a tile; None where it is called as the network calls it,
            which is right if no position looks at another.
        slides: over the last dimensions, whether these hold positions or bands.
        effort: multiply-adds.
        other_operations: of a node, by how many numbers its largest input and its output have.
        is_view: its output shares its input's memory.
        scratch: bytes that a call takes beside what it reads and gives.
        whole_scratch: the same of a call on all that it reads, beside a copy of that.
        in_place: whether a call writes where its rows are kept; None where it never does.
        repair: how a call whose shapes do not fit is put right.
        layer: the layer without settings that computes it.
        no_rule: why it has no geometry.
    """

    names: str
    family: Family = Family.UNKNOWN
    geometry: Rule | None = None
    compute: Callable[[Node, Tensors], Computation] | None = None
    slides: bool = False
    effort: Callable[[Node, Shapes], Effort] = no_effort
    other_operations: Callable[[Node, int, int], int] = one_each
    is_view: bool = False
    scratch: Callable[[Work], int] = called
    whole_scratch: Callable[[Work], int] = nothing_more
    in_place: Callable[[Work], bool] | None = None
    repair: Repair | None = None
    layer: Callable[[], nn.Module] | None = None
    no_rule: str = "no rule for this operator"

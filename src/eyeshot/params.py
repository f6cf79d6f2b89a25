"""The numbers of an operator, by name and with their types: kernel, stride, groups and the like."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self, cast

Sizes = tuple[int, ...]


class Params:
    """The settings of any operator, with defaults for those that it does not have.

    Sizes have one number for each spatial axis. Each kind of operator has its own class with its
    settings; ``node.params.groups`` works for any node.
    """

    kernel: Sizes = ()
    stride: Sizes = ()
    padding: tuple[Any, ...] = ()
    dilation: Sizes = ()
    groups: int = 1
    in_channels: int = 0
    out_channels: int = 0
    in_features: int = 0
    out_features: int = 0
    bias: bool = False
    activation: str | None = None
    parts: int | None = None
    count_include_pad: bool | None = None
    output_size: tuple[int | None, ...] = ()
    dim: int = 0
    start: int = 0
    step: int = 1
    length: int = 0
    repeats: int = 1
    order: Sizes = ()
    mode: str = ""
    value: float | None = None
    factor: tuple[float, ...] | None = None
    size: Sizes | None = None
    training: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The settings by name; None values are left out."""
        names = getattr(self, "__dataclass_fields__", ())
        found = {name: getattr(self, name) for name in names}
        return {name: value for name, value in found.items() if value is not None}

    def but(self, **changes: Any) -> Self:
        """The same settings with some replaced."""
        found: Self = replace(cast(Any, self), **changes)
        return found

    def __repr__(self) -> str:
        return f"Params({self.to_dict()})"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))


@dataclass(frozen=True, kw_only=True, repr=False)
class ConvolutionParams(Params):
    """The settings of a convolution or a transposed convolution.

    Attributes:
        padding: (before, after) of each axis.
        activation: fused into it, such as ``relu``.
        parts: the number of inputs that it reads instead of their concatenation.
    """

    kernel: Sizes
    stride: Sizes
    padding: tuple[tuple[int, int], ...]
    output_padding: Sizes | None = None
    dilation: Sizes
    groups: int
    in_channels: int
    out_channels: int
    bias: bool
    activation: str | None = None
    parts: int | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class PoolParams(Params):
    """The settings of a pooling with a window. Only an average has ``count_include_pad``."""

    kernel: Sizes
    stride: Sizes
    padding: tuple[tuple[int, int], ...]
    dilation: Sizes
    ceil_mode: bool
    count_include_pad: bool | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class AdaptivePoolParams(Params):
    """The settings of an adaptive pooling; None keeps the size of an axis."""

    output_size: tuple[int | None, ...]


@dataclass(frozen=True, kw_only=True, repr=False)
class LinearParams(Params):
    """Of a linear layer."""

    in_features: int
    out_features: int
    bias: bool


@dataclass(frozen=True, kw_only=True, repr=False)
class ProductParams(Params):
    """Of a matrix product or an einsum: how many products are added up."""

    in_features: int


@dataclass(frozen=True, kw_only=True, repr=False)
class ResizeParams(Params):
    """Of an interpolation, by a factor or to a size."""

    mode: str
    align_corners: bool
    factor: tuple[float, ...] | None
    size: Sizes | None


@dataclass(frozen=True, kw_only=True, repr=False)
class PadParams(Params):
    """Of a padding: amounts as torch takes them, the last dimension's first."""

    padding: Sizes
    mode: str
    value: float | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class JoinParams(Params):
    """Of a concatenation."""

    dim: int


@dataclass(frozen=True, kw_only=True, repr=False)
class SliceParams(Params):
    """Of a slice, or a write into one."""

    dim: int
    start: int
    step: int = 1
    length: int


@dataclass(frozen=True, kw_only=True, repr=False)
class RepeatParams(Params):
    """Of a repetition of each position."""

    dim: int
    repeats: int


@dataclass(frozen=True, kw_only=True, repr=False)
class UnfoldParams(Params):
    """Of windows cut along one dimension."""

    dim: int
    window: int
    step: int


@dataclass(frozen=True, kw_only=True, repr=False)
class ShuffleParams(Params):
    """Of depth to space and back: the side of a block."""

    block: int


@dataclass(frozen=True, kw_only=True, repr=False)
class PermuteParams(Params):
    """Of a new order of the dimensions."""

    order: Sizes


@dataclass(frozen=True, kw_only=True, repr=False)
class GroupParams(Params):
    """Of a normalization of groups of channels."""

    groups: int


@dataclass(frozen=True, kw_only=True, repr=False)
class MomentsParams(Params):
    """Of the mean and the deviation that a normalization takes.

    Attributes:
        over: dimensions of features over which they are taken, beside the positions.
        groups: of channels that count as one; 0 for none.
        eps: added to the variance.
        centered: False where the mean counts as zero.
    """

    over: Sizes
    groups: int
    eps: float
    centered: bool


@dataclass(frozen=True, kw_only=True, repr=False)
class TrainingParams(Params):
    """Of a layer that was read in training mode."""

    training: bool = True


NO_PARAMS = Params()

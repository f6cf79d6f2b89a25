"""Numbers of a row in few characters: shapes, options, fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from eyeshot.axes import Interval
from eyeshot.geometry import LayerField
from eyeshot.inspection.rows import Row
from eyeshot.language import tr

# A fraction of numbers with no end is cut here.
_DIGITS = 2


def shape_words(shape: Sequence[int]) -> str:
    """``64×112×112``."""
    return "×".join(str(n) for n in shape)


def count_words(count: int) -> str:
    """Thousands apart; a dot for none."""
    return f"{count:,}" if count else "·"


def number_words(value: Fraction | float) -> str:
    """A whole number as such, another with two digits."""
    return str(int(value)) if value == int(value) else f"{float(value):.{_DIGITS}f}"


def byte_words(count: int) -> str:
    """Bytes in the largest unit that leaves at least one."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def per_axis(values: Sequence[str]) -> str:
    """One value where all axes agree, else all of them."""
    unlike = list(dict.fromkeys(values))
    return unlike[0] if len(unlike) == 1 else "×".join(values)


def options_words(options: Mapping[str, Any]) -> str:
    """Kernel, and what is not the default: ``7×7 /2 pad 3``."""
    words: list[str] = []
    kernel = options.get("kernel")
    if kernel:
        words.append(shape_words(kernel))
    stride = options.get("stride")
    if stride and set(stride) != {1}:
        words.append(f"/{_same(stride)}")
    padding = options.get("padding")
    if padding and any(_flat(padding)):
        words.append(f"pad {_padding(padding)}")
    for name, default in (("dilation", 1), ("output_padding", 0)):
        value = options.get(name)
        if value and set(value) != {default}:
            words.append(f"{name.replace('_', ' ')} {_same(value)}")
    if options.get("groups", 1) != 1:
        words.append(f"groups {options['groups']}")
    if options.get("ceil_mode"):
        words.append("ceil")
    return " ".join(words + _other_words(options))


def _other_words(options: Mapping[str, Any]) -> list[str]:
    words = []
    if options.get("output_size"):
        words.append(f"to {shape_words(options['output_size'])}")
    if isinstance(options.get("mode"), str):
        words.append(str(options["mode"]))
    factor = options.get("factor")
    if factor:
        listed = factor if isinstance(factor, tuple) else (factor,)
        words.append(f"by {per_axis([number_words(one) for one in listed])}")
    elif options.get("size"):
        words.append(f"to {shape_words(options['size'])}")
    if options.get("align_corners"):
        words.append("corners aligned")
    return words


def _same(values: Sequence[int]) -> str:
    return per_axis([str(one) for one in values])


def _flat(padding: Sequence[Any]) -> list[int]:
    return [n for one in padding for n in (one if isinstance(one, (tuple, list)) else [one])]


def _padding(padding: Sequence[Any]) -> str:
    """Before and after for each axis; ``pad`` lists bare numbers, from the last axis back."""
    if not isinstance(padding[0], (tuple, list)):
        return ",".join(str(one) for one in padding)
    return per_axis([str(a) if a == b else f"{a}+{b}" for a, b in padding])


def field_words(row: Row) -> str:
    """``427``, ``188–204`` where phases differ, ``whole image``, or ``?``."""
    if not row.fields:
        return "?"
    if row.status != "exact":
        return tr(row.status)
    return per_axis([_range(field) for field in row.fields])


def _range(field: LayerField) -> str:
    if field.smallest == field.largest:
        return str(field.largest)
    return f"{field.smallest}–{field.largest}"


def stride_words(row: Row) -> str:
    """Inputs from one unit to the next."""
    if row.status != "exact":
        return ""
    strides = [field.stride for field in row.fields]
    return per_axis(["?" if stride is None else number_words(stride) for stride in strides])


def center_words(row: Row) -> str:
    """Where unit 0 looks."""
    if row.status != "exact":
        return ""
    return per_axis([number_words(field.center) for field in row.fields])


def padding_words(row: Row) -> str:
    """How far unit 0 sees before the first input."""
    if row.status != "exact":
        return ""
    return per_axis([str(field.padding) for field in row.fields])


def box_words(box: Sequence[Interval]) -> str:
    """``[-3, 4) × [-3, 4)``."""
    return " × ".join(str(side) for side in box)


def elided(name: str, width: int) -> str:
    """A dotted name cut in its middle to at most ``width`` characters."""
    if len(name) <= width:
        return name
    tail = (width - 1) * 2 // 3
    return f"{name[: width - 1 - tail]}…{name[-tail:]}"

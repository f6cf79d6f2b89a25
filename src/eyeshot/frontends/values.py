"""What a traced value is beside its shape: its type, and how it lies in memory."""

from __future__ import annotations

import torch


def dtype_name(dtype: torch.dtype) -> str:
    """Torch's name of a type, such as ``float32``."""
    return str(dtype).removeprefix("torch.")


def is_channels_last(origin: torch.fx.Node) -> bool:
    """Whether the first tensor that an operator takes lies in memory with its channels last."""
    first = origin.args[0] if origin.args else None
    value = first.meta.get("val") if isinstance(first, torch.fx.Node) else None
    if not isinstance(value, torch.Tensor) or value.ndim not in (4, 5):
        return False
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return value.is_contiguous(memory_format=formats[value.ndim])


def mixes_types(graph: torch.fx.Graph) -> bool:
    """Whether an operator is traced on floats of two types that torch would refuse when it runs.

    Operators that look at one position at a time convert to the wider type, as ``cat`` does. A
    convolution does not, and the trace, which computes nothing, does not find out.
    """
    return any(
        len(_real_types(node)) > 1 and not _converts(node.target)
        for node in graph.nodes
        if node.op == "call_function"
    )


def _real_types(node: torch.fx.Node) -> set[torch.dtype]:
    values = [one.meta.get("val") for one in node.all_input_nodes]
    tensors = [one for one in values if isinstance(one, torch.Tensor) and one.ndim]
    return {one.dtype for one in tensors if one.is_floating_point()}


def _converts(target: object) -> bool:
    tags = getattr(target, "tags", ())
    return torch.Tag.pointwise in tags or getattr(target, "_opname", "") == "cat"

"""Names for nodes: the module's dotted path, numbered where a module is used again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import torch

from eyeshot.frontends.calls import plain_name

_LAYERS = ("torch.nn.modules", "eyeshot.frontends.onnx")
"""Where the classes of modules that are one layer come from."""


class Namer:
    """Gives each traced operator a unique, readable name.

    The last operator of a module of torch's own, or of an ONNX node, gets the module's path
    (``stem.conv``); of several outputs the first does, and not the places of a pool or the state
    of an LSTM. Any other gets the path with the operator's name behind it (``stem.conv.pad``,
    ``block1.relu``), and a second use gets a number (``block1.relu#2``).
    """

    def __init__(self, fx_nodes: Iterable[torch.fx.Node]) -> None:
        last_of_call: dict[str, torch.fx.Node] = {}
        self._layers: set[str] = set()
        for fx_node in fx_nodes:
            self._layers.add(_innermost(fx_node)[1])
            if fx_node.op == "call_function" and isinstance(fx_node.meta.get("val"), torch.Tensor):
                key, _, kind = _innermost(fx_node)
                if kind.startswith(_LAYERS) and not _is_beside(fx_node):
                    last_of_call[key] = fx_node
        self._main = set(last_of_call.values())
        self._used: Counter[str] = Counter()

    def of_input(self, fx_node: torch.fx.Node) -> str:
        """The name of an argument of ``forward``, unless a layer has the same."""
        return f"input.{fx_node.name}" if fx_node.name in self._layers else fx_node.name

    def layer(self, fx_node: torch.fx.Node) -> str:
        """The dotted path of the module that computes it."""
        return _innermost(fx_node)[1]

    def of(self, fx_node: torch.fx.Node) -> str:
        """A unique name."""
        path = self.layer(fx_node)
        name = path
        if fx_node not in self._main or not path:
            name = f"{path}.{_word(fx_node)}" if path else _word(fx_node)
        self._used[name] += 1
        count = self._used[name]
        return name if count == 1 else f"{name}#{count}"


def _word(fx_node: torch.fx.Node) -> str:
    origin = fx_node.args[0] if fx_node.op == "call_function" and _is_item(fx_node) else fx_node
    return plain_name(origin.target) if isinstance(origin, torch.fx.Node) else fx_node.name


def _is_item(fx_node: torch.fx.Node) -> bool:
    return getattr(fx_node.target, "__name__", "") == "getitem"


def _is_beside(fx_node: torch.fx.Node) -> bool:
    """Whether it is one of several outputs, and not the first of them."""
    return _is_item(fx_node) and int(fx_node.args[1]) != 0  # type: ignore[arg-type]


def _innermost(fx_node: torch.fx.Node) -> tuple[str, str, str]:
    """The innermost module call around an operator: its key, dotted path and class."""
    stack = fx_node.meta.get("nn_module_stack")
    if not stack and _is_item(fx_node) and isinstance(fx_node.args[0], torch.fx.Node):
        stack = fx_node.args[0].meta.get("nn_module_stack")
    if not stack:
        return "", "", ""
    key, (path, kind) = list(stack.items())[-1]
    return str(key), str(path), kind if isinstance(kind, str) else kind.__module__

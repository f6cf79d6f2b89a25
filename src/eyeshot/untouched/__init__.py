"""Restore a network: :func:`untouched` undoes all changes that a pass made to it.

``torch.export`` replaces a network's weights by fake tensors and sometimes does not restore them
(a module with two names loses its weights). And ``forward`` is a user's code: it may count its
calls, keep its last map, or make a grid on first use. During a trace such saved tensors contain no
numbers. So Eyeshot runs every pass inside this block.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch import nn

from eyeshot.untouched.snapshot import Chance, Handed, Snapshot, Writes

__all__ = ["Snapshot", "untouched"]


@contextmanager
def untouched(
    net: nn.Module, *, computes: bool = True, found: Snapshot | None = None
) -> Iterator[None]:
    """In the block the network may run; after it everything is as before, bit for bit.

    It restores weights, buffers and plain attributes, both values and objects; lists, dictionaries
    and objects in which ``forward`` saves data, including closures and global variables of its
    functions; hooks, modes, gradients; and the state of the random generators. It does not copy the
    weights: a tensor is copied only before an in-place write.

    Args:
        net: the network.
        computes: whether the block computes with the network's own weights and buffers. False if
            fake tensors replace them, as in a trace.
        found: the snapshot to restore, if it was already made.

    Raises:
        BadValue: a layer of the network has no weights yet.
    """
    chance = Chance()
    found = found or Snapshot(net)
    writes = Writes(found.tensors())
    try:
        with ExitStack() as stack:
            if computes or found.holds_much:
                stack.enter_context(Handed(writes))
            if computes:
                stack.enter_context(writes)
            else:
                writes.save(found.loose)
            yield
    finally:
        _insist(found, writes, chance)


def _insist(found: Snapshot, writes: Writes, chance: Chance) -> None:
    """Restore all, and only then let an interrupt (^C) through."""
    interrupt: KeyboardInterrupt | None = None
    for _ in range(_MOST_INTERRUPTS):
        try:
            found.restore()
            writes.restore()
            chance.restore()
            break
        except KeyboardInterrupt as pressed:
            interrupt = pressed
    if interrupt is not None:
        raise interrupt


_MOST_INTERRUPTS = 100

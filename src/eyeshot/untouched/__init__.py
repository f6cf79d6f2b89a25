"""A network is left as it was found: :func:`untouched` undoes all that a pass through it changed.

``torch.export`` swaps a network's weights for stand-ins and now and then forgets to swap them back
(a module with two names is left without its weights). And ``forward`` is a stranger's code: it
counts its calls, keeps its last map, makes a grid on first use. While a network is traced, what it
keeps in this way has no numbers in it. So every pass of ours runs in here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch import nn

from eyeshot.untouched.chance import Chance
from eyeshot.untouched.snapshot import Snapshot
from eyeshot.untouched.writes import Handed, Writes

__all__ = ["Snapshot", "untouched"]


@contextmanager
def untouched(
    net: nn.Module, *, computes: bool = True, found: Snapshot | None = None
) -> Iterator[None]:
    """Within the block the network may be run; after it everything is as before, bit for bit.

    Restored are weights, buffers and plain attributes, their values as well as the objects; lists,
    dictionaries and objects in which ``forward`` keeps things, also those that its functions close
    over or know as global variables; hooks, modes, gradients; and the state of the random numbers.
    It costs no copy of the weights: only what is written to in place is copied, before it is.

    Args:
        net: the network.
        computes: the block computes with the network's own weights and buffers. False where these
            have stand-ins without numbers, as in a trace.
        found: what the network is to be again, where that was looked up already.

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

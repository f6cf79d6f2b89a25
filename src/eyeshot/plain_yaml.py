"""YAML that people write by hand: small, and data alone.

YAML can say very much in few bytes: 400 bytes of aliases stand for billions of values. Nothing that
Eyeshot reads needs them, so they are refused, and so is a tree that is too large or too deep.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from eyeshot.errors import BadValue
from eyeshot.files import explain_os_error

MOST_BYTES = 2**24
MOST_NODES = 2**16


class _Plain(yaml.SafeLoader):
    """The safe loader without aliases, with a limit to the number of values."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._nodes += 1
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            line = event.start_mark.line + 1
            raise BadValue(
                f"line {line} holds an anchor or alias", cure="write the value out, without & and *"
            )
        if self._nodes > MOST_NODES:
            raise BadValue(f"more than {MOST_NODES} values", cure="remove what is not needed")
        return super().compose_node(parent, index)


def parse(text: str) -> tuple[Any, yaml.Node | None]:
    """The tree that a text holds, and the same as it is written; None of nothing.

    Raises:
        BadValue: not YAML, or none that a person would write.
    """
    try:
        loader = _Plain(text)
        node = loader.get_single_node()
        tree = None if node is None else loader.construct_document(node)
    except RecursionError:
        raise BadValue("values within values, too deep", cure="write a flat list") from None
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, AttributeError) as error:
        raise BadValue(f"not YAML ({error})") from None
    return tree, node


def read(path: Path) -> tuple[Any, yaml.Node | None]:
    """:func:`parse` of a file.

    Raises:
        FileNotFoundError: it is missing.
        BadFile: it cannot be read.
        BadValue: not UTF-8, too large, not YAML, or none that a person would write.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise explain_os_error(error, path) from error
    if len(content) > MOST_BYTES:
        raise BadValue(f"larger than {MOST_BYTES >> 20} MiB", cure="name the right file")
    try:
        return parse(content.decode())
    except UnicodeDecodeError as error:
        raise BadValue(f"not UTF-8 ({error.reason} at byte {error.start})") from None

"""Replace names of settings in messages by the options of the command line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import typer

from eyeshot.errors import UserError

_SETTING = re.compile(r"(?P<net>\w+: )?(?P<name>\w+)(?: \(--\w+\))?(?= (?:is|are|has|'))")
"""A setting at the start of a message, perhaps after a network's name."""


@contextmanager
def options_named(spelled: Mapping[str, str]) -> Iterator[None]:
    """In the block, an error about a setting starts with the option that the user typed.

    Args:
        spelled: the option for each setting.
    """
    try:
        yield
    except UserError as error:
        found = _SETTING.match(error.fact)
        if found and found["name"] in spelled:
            front = found["net"] or ""
            error.fact = front + spelled[found["name"]] + error.fact[found.end() :]
        raise


def spelled_by(context: typer.Context) -> dict[str, str]:
    """The option of each parameter of a command."""
    options = (one for one in context.command.params if one.param_type_name == "option")
    return {one.name: one.opts[0] for one in options if one.name}

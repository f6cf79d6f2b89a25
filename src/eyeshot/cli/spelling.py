"""Settings in messages, as they are spelled on the command line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import typer

from eyeshot.errors import UserError

_SETTING = re.compile(r"(?P<net>\w+: )?(?P<name>\w+)(?: \(--\w+\))?(?= (?:is|are|has|'))")
"""A setting where a message begins with one, maybe behind a network's name."""


@contextmanager
def options_named(spelled: Mapping[str, str]) -> Iterator[None]:
    """Within it, what the user is told of a setting begins with the option that was typed.

    Args:
        spelled: the option of each setting.
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

"""README promises no command that is not there, and leaves none out."""

from __future__ import annotations

import re

import typer.main

from eyeshot import cli
from eyeshot.demo import STEPS
from tests.documents import ROOT, blocks

README = ROOT / "README.md"


def test_the_table_lists_every_command_in_no_other_words() -> None:
    listed = re.findall(r"^\| `eyeshot (\w+)` \|", README.read_text(), re.MULTILINE)
    group = typer.main.get_command(cli.app)
    assert sorted(listed) == sorted(getattr(group, "commands", {}))


def test_the_two_commands_are_in_the_makefile() -> None:
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    promised = re.findall(r"`?make (\w+)`?", README.read_text())
    assert {"demo", "test", "bench"} <= set(promised) <= set(targets)


def test_the_example_is_short() -> None:
    (example,) = [block for block in blocks(README) if block.language == "python"]
    lines = [line for line in example.text.splitlines() if line.strip()]
    assert len(lines) <= 12


def test_what_make_demo_is_said_to_print_are_its_steps() -> None:
    shown = blocks(README)[0].text
    for number, step in enumerate(STEPS, 1):
        assert f"{number}. {step.title}\n" in shown

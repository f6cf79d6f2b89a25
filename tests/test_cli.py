"""The command line's manners: exit codes, one line, no traceback."""

from __future__ import annotations

import subprocess
import sys

import pytest

from eyeshot.cli import main


def test_help_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "Usage: eyeshot" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--bogus"], ["trian"]])
def test_a_usage_mistake_is_one_line_and_exit_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert told.startswith("eyeshot: ")
    assert told.count("\n") == 1
    assert arguments[0] in told


def test_the_module_runs_as_the_command() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "eyeshot", "--version"], capture_output=True, text=True
    )
    assert result.returncode == 0
    assert result.stdout.startswith("eyeshot ")

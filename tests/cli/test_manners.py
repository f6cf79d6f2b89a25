"""The command line's manners: exit codes, one line, no traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from eyeshot import cli
from eyeshot.__main__ import _flush
from eyeshot.cli import main


def test_help_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "Usage: eyeshot" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--bogus"], ["trian"]])
def test_a_usage_mistake_is_one_line_and_exit_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    reported = capsys.readouterr().err
    assert reported.startswith("eyeshot: ")
    assert reported.count("\n") == 1
    assert arguments[0] in reported


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [
        (["filter", "a.png"], "for example: eyeshot filter photo.jpg --kernel sobel -o edges.png"),
        (["audit", "net.py:Net"], "for example: eyeshot audit net.py:UNet --tile 512"),
        (["qqq"], "see eyeshot --help"),
    ],
)
def test_a_usage_mistake_names_an_example(
    arguments: list[str], cure: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert f"; {cure}" in capsys.readouterr().err


def test_the_module_runs_as_the_command() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "eyeshot", "--version"], capture_output=True, text=True
    )
    assert result.returncode == 0
    assert result.stdout.startswith("eyeshot ")


def test_an_argument_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["\x1b[31mred" + "x" * 10**5]) == 2
    reported = capsys.readouterr().err
    assert "\x1b" not in reported
    assert len(reported) < 2100


def test_ascii_alone_is_enough() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    for arguments in (["--help"], ["explain", "conv", "--size", "3"], ["explain", "--help"]):
        result = subprocess.run(
            [sys.executable, "-m", "eyeshot", *arguments], capture_output=True, env=environment
        )
        assert result.returncode in (0, 2), result.stderr
        assert b"Traceback" not in result.stderr
        assert result.stdout.isascii()


@pytest.fixture
def interruptible() -> Iterator[None]:
    """What a shell runs in its background begins with ^C ignored, and so do its children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_is_130_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where the library that was being loaded makes another error of it."""

    def turned(**_: object) -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        except KeyboardInterrupt:
            raise ImportError("half loaded") from None

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(cli, "app", turned)
    assert main([]) == 130
    assert capsys.readouterr().err == "eyeshot: interrupted\n"
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_while_the_command_line_loads_is_quiet(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("import time\nprint('loading', flush=True)\ntime.sleep(30)")
    environment = {**os.environ}
    environment["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{environment.get('PYTHONPATH', '')}"
    with subprocess.Popen(
        [sys.executable, "-m", "eyeshot", "--help"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"loading\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=20)[1] == b"eyeshot: interrupted\n"
        assert process.returncode == 130


def test_the_command_line_runs_in_any_thread(capsys: pytest.CaptureFixture[str]) -> None:
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(main(["--version"])))
    thread.start()
    thread.join()
    assert codes == [0]
    assert capsys.readouterr().out.startswith("eyeshot ")


def test_torch_out_of_memory_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def allocate(**_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 EB")

    monkeypatch.setattr(cli, "app", allocate)
    assert main([]) == 1
    assert capsys.readouterr().err.startswith("eyeshot: out of memory; ")


def test_a_file_that_nobody_closes_is_written_at_the_end(tmp_path: Path) -> None:
    """Python ends without a search for garbage, which closed such files."""
    log = (tmp_path / "log").open("w")
    log.write("one row\n")
    _flush()
    assert (tmp_path / "log").read_text() == "one row\n"
    log.close()
    _flush()

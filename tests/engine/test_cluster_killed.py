"""Whatever is killed while a cluster runs, the bytes are those of the undisturbed run.

Each test starts processes: forked ones, but for the worker of a command, which imports torch.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import distributed
import numpy as np
import pytest
import torch
import zarr
from hypothesis import settings
from torch import nn

import eyeshot
from eyeshot.errors import BadFile, Failure
from tests.engine.cluster import cluster, start

KILLS = 2 * settings().max_examples // settings.get_profile("eyeshot").max_examples
"""At most; in ``make fuzz`` ten."""
_client: Any = distributed.Client


_CODE = """
import torch
from torch import nn

def Net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 1, 3)
    )
"""


def _net() -> nn.Module:
    names: dict[str, Any] = {}
    exec(_CODE, names)
    net: nn.Module = names["Net"]().eval()
    return net


def _image(folder: Path, side: int = 2000) -> Path:
    rng = np.random.default_rng(0)
    np.save(folder / "image.npy", rng.integers(0, 256, (1, side, side), dtype=np.uint8))
    return folder / "image.npy"


def _files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def _undisturbed(image: Path, out: Path, journal: bytes) -> dict[str, bytes]:
    """The same blocks in one thread of this process, from the settings of the other run."""
    Path(f"{out}.part.json").write_bytes(journal)
    with cluster(1, processes=False) as client:
        eyeshot.run(_net(), image, out, client=client, resume=True)
    return _files(out)


def test_workers_that_are_killed(tmp_path: Path) -> None:
    image, out = _image(tmp_path), tmp_path / "out.zarr"
    chance = random.Random(f"{KILLS}")
    kills: list[int] = []
    journals: list[bytes] = []

    def after_a_block(report: Any) -> None:
        if not journals:
            journals.append(Path(f"{out}.part.json").read_bytes())
        children = [one.pid for one in multiprocessing.active_children() if one.pid]
        if children and len(kills) < KILLS and report.blocks < report.all_blocks:
            time.sleep(chance.uniform(0, 0.05))  # the workers go on
            with suppress(ProcessLookupError):  # it may have been ended by its nanny
                os.kill(one := chance.choice(children), signal.SIGKILL)
                kills.append(one)

    with cluster(2) as client:
        eyeshot.run(_net(), image, out, client=client, retries=50, progress=after_a_block)
    assert kills
    assert _files(out) == _undisturbed(image, tmp_path / "undisturbed.zarr", journals[0])


def test_a_scheduler_that_vanishes(tmp_path: Path) -> None:
    image, out, named = _image(tmp_path), tmp_path / "out.zarr", tmp_path / "scheduler.json"
    common = ("--scheduler-file", str(named))
    scheduler, _ = start(
        *("dask", "scheduler", *common, "--host", "127.0.0.1", "--port", "0", "--no-dashboard"),
        folder=tmp_path,
    )
    worker, _ = start(
        *("dask", "worker", *common, "--no-nanny", "--nthreads", "1", "--no-dashboard"),
        *("--death-timeout", "60"),
        folder=tmp_path,
    )
    reports: list[Any] = []

    def after_a_block(report: Any) -> None:
        reports.append(report)
        scheduler.kill()

    try:
        until = time.monotonic() + 120
        while not named.exists() and time.monotonic() < until:
            time.sleep(0.05)
        assert named.exists()  # a client waits for it without end
        with (
            _client(scheduler_file=str(named), set_as_default=False, timeout=60) as client,
            pytest.raises(
                Failure, match=r"blocks are missing: .*\(the scheduler is gone"
            ) as caught,
        ):
            eyeshot.run(_net(), image, out, client=client, progress=after_a_block)
    finally:
        for process in (scheduler, worker):
            process.kill()
            process.join()
    assert "--resume" in caught.value.cure
    assert not out.exists()
    expected = _undisturbed(
        image, tmp_path / "undisturbed.zarr", Path(f"{out}.part.json").read_bytes()
    )
    before = reports[-1].blocks
    with cluster(1, threads=2, processes=False) as other:
        eyeshot.run(_net(), image, out, client=other, resume=True, progress=reports.append)
    assert reports[-1].before >= before >= 1
    assert _files(out) == expected


def test_a_client_that_is_killed_and_a_second_one_beside_it(tmp_path: Path) -> None:
    image, out = _image(tmp_path, 3000), tmp_path / "out.zarr"
    (tmp_path / "net.py").write_text(_CODE)
    words = ("run", "net.py:Net", str(image), "-o", str(out), "--workers", "1")
    first, _ = start("eyeshot", *words, folder=tmp_path)
    try:
        _freeze_after_a_block(first, Path(f"{out}.part.blocks"))
        with cluster(1, processes=False) as client:
            with pytest.raises(BadFile, match="still writing it"):
                eyeshot.run(_net(), image, out, client=client, resume=True)
            first.kill()
            first.join()
            expected = _undisturbed(
                image, tmp_path / "undisturbed.zarr", Path(f"{out}.part.json").read_bytes()
            )
            eyeshot.run(_net(), image, out, client=client, resume=True)
    finally:
        with suppress(ProcessLookupError):  # its worker saw its end, and ended too
            os.killpg(first.pid or 0, signal.SIGKILL)
        first.join()
    assert _files(out) == expected
    assert not list(tmp_path.glob("out.zarr.*"))


def _freeze_after_a_block(client: BaseProcess, records: Path) -> None:
    """Stop a client where it is, when it has noted its first block."""
    until = time.monotonic() + 120
    while client.is_alive() and time.monotonic() < until:
        if records.exists() and records.read_bytes():
            os.kill(client.pid or 0, signal.SIGSTOP)
            return
        time.sleep(0.002)
    raise AssertionError("no block was noted")


@pytest.fixture
def two_networks() -> Iterator[tuple[str, str]]:
    """The names of two network namespaces, which a cable connects."""
    names = [f"eyeshot{os.getpid()}{end}" for end in "ab"]
    setup = [["netns", "add", name] for name in names]
    setup.append(["link", "add", names[0], "type", "veth", "peer", "name", names[1]])
    for number, name in enumerate(names, 1):
        setup += [
            ["link", "set", name, "netns", name],
            ["-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", name],
            ["-n", name, "link", "set", "lo", "up"],
            ["-n", name, "link", "set", name, "up"],
        ]
    ip = shutil.which("ip") or pytest.skip("no ip")
    try:
        for words in setup:
            if subprocess.run([ip, *words], capture_output=True, check=False).returncode:
                pytest.skip("network namespaces are not allowed here")
        yield names[0], names[1]
    finally:
        for name in names:
            subprocess.run([ip, "netns", "del", name], capture_output=True, check=False)


def test_a_client_and_a_worker_in_two_networks(
    two_networks: tuple[str, str], tmp_path: Path
) -> None:
    """The scheduler and the worker see nothing of the client but its address, and the disk."""
    here, there = two_networks
    image, out = _image(tmp_path, 600), tmp_path / "out.zarr"
    (tmp_path / "net.py").write_text(_CODE)
    address = "tcp://10.77.0.2:8786"
    there_too = [
        start("dask", *words, "--no-dashboard", folder=tmp_path, network=there)
        for words in (
            ("scheduler", "--host", "10.77.0.2", "--port", "8786"),
            ("worker", address, "--no-nanny", "--nthreads", "1", "--death-timeout", "60"),
        )
    ]
    words = ("run", f"{tmp_path / 'net.py'}:Net", str(image), "-o", str(out))
    client, results = start(
        "eyeshot", *words, "--scheduler", address, folder=tmp_path, network=here
    )
    try:
        code, errors = results.recv()
    finally:
        for process in (client, *(process for process, _ in there_too)):
            process.kill()
            process.join()
    assert code == 0, errors
    net, samples = _net(), torch.from_numpy(np.load(image)).float() / 255
    with torch.no_grad():
        truth = net(samples[None])[0].numpy()
    found = zarr.open_array(out, mode="r")[:]
    assert np.abs(found - truth).max() <= 1e-5 * np.abs(truth).max()

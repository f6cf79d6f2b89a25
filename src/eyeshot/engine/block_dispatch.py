"""Send blocks to the workers of a Dask cluster, take their answers, and report the progress."""

from __future__ import annotations

import queue
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from time import monotonic
from typing import Any

from eyeshot.engine.block_task import (
    compute_block,
    gather_block,
    read_block_again,
)
from eyeshot.engine.blocks import Blocks
from eyeshot.engine.cluster_plan import ClusterRun
from eyeshot.engine.cluster_workers import (
    WAIT_FOR_WORKERS,
    threads_of,
)
from eyeshot.engine.executing import RunReport
from eyeshot.engine.heights import Extremes
from eyeshot.errors import BadValue, Failure, one_line
from eyeshot.images.sinks.zarr_blocks import BlockedZarr, Record

_AHEAD = 4
"""Blocks that are sent out for each one that the workers can compute at a time."""
_LEAST_AHEAD = 64
_HOPELESS = 8
"""The run ends after so many blocks in a row that failed in all their attempts."""
_LISTED = 20
_ANSWER = 30.0
"""Seconds to wait for the answers of finished blocks; an answer that is later is lost."""
_BRIEFLY = 1.0
"""Seconds to wait for a single answer after other answers were lost."""
_LOOK = 2.0
"""Seconds between two checks of the scheduler while no answer comes."""


@dataclass(frozen=True, slots=True)
class ClusterReport(RunReport):
    """The progress of a run on a cluster; rows count the rows of all blocks.

    Attributes:
        blocks: the number of blocks that are written.
        all_blocks: the number of all blocks.
        before: the number of blocks that an earlier run had written, if it is resumed.
        stage: the stage that gathers statistics, from 1; 0 while the output is computed.
        stages: the number of stages.
        workers: the number of workers at present.
    """

    blocks: int = 0
    all_blocks: int = 0
    before: int = 0
    workers: int = 0
    stage: int = 0
    stages: int = 0

    @property
    def progress(self) -> str:
        """The progress in words."""
        stage = f"stage {self.stage} of {self.stages}: " if self.stage else ""
        return f"{stage}{self.blocks} of {self.all_blocks} blocks"

    @property
    def seconds_left(self) -> float:
        """At the speed so far."""
        return self.seconds * (self.all_blocks - self.blocks) / max(1, self.blocks - self.before)


Progress = Callable[[RunReport], None]


@dataclass
class _Sent:
    """A block that was sent to a worker.

    Attributes:
        number: the number of the block.
        failures: how often it failed before.
        avoid: the workers on which it failed.
        only: the workers that it was sent to; empty for any.
        moves: how often all of those were gone before it was computed.
    """

    number: int
    failures: int = 0
    avoid: frozenset[str] = frozenset()
    only: frozenset[str] = frozenset()
    moves: int = 0


@dataclass
class Spent:
    """The cost of the run so far.

    Attributes:
        megapixels: megapixels of the input that were read.
        multiply_adds: multiply-adds that were computed.
        peak: the most memory that a worker used, in bytes.
        since: the time at which the run started.
    """

    megapixels: float = 0.0
    multiply_adds: int = 0
    peak: int = 0
    since: float = field(default_factory=monotonic)

    def add(self, answer: Mapping[str, Any]) -> None:
        """Add the cost of a block."""
        self.megapixels += answer["megapixels"]
        self.multiply_adds += answer["multiply_adds"]
        self.peak = max(self.peak, answer["peak"])


@dataclass
class BlockDispatch:
    """Sends blocks out and takes their answers."""

    client: Any
    run: ClusterRun
    sinks: Mapping[str, BlockedZarr]
    run_key: tuple[str, str]
    retries: int
    progress: Progress | None
    blocks: Blocks
    before: set[int]
    spent: Spent
    stage: int = -1
    done: set[int] = field(default_factory=set)
    failed: dict[int, str] = field(default_factory=dict)
    ended: str = ""

    def __post_init__(self) -> None:
        self.extremes = Extremes(self.run.job)
        self._active: dict[Any, _Sent] = {}
        self._back: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._seen_worker = monotonic()
        self._in_a_row = 0
        self._workers = len(self.run.workers.threads)
        self._blank = self._outside = 0.0
        self._rows = [
            sum(len(box[0]) for box in self.blocks.regions(number).values())
            for number in range(len(self.blocks))
        ]
        self._all_rows = sum(self._rows)
        self._rows_done = sum(self._rows[number] for number in self.before)

    def carry_out(self, missing: Sequence[int]) -> None:
        """Compute the missing blocks, as far as the workers can."""
        waiting = iter([_Sent(number) for number in missing])
        again: list[_Sent] = []
        most = max(_LEAST_AHEAD, _AHEAD * self.run.workers.slots)
        try:
            while not self.ended:
                fresh = list(islice(waiting, max(0, most - len(self._active) - len(again))))
                self._send(fresh)
                for one in again:
                    self._send_elsewhere(one)
                if not self._active:
                    return
                again = self._receive()
        finally:
            left = list(self._active)
            self._active.clear()
            if left:
                with suppress(Exception):  # the scheduler may not answer, so it gets no request
                    self.client.cancel(left, force=True)

    def _send(self, blocks: Sequence[_Sent]) -> None:
        """Send blocks to any worker, in one message."""
        if not blocks:
            return
        function, *arguments = self._task()
        futures = self.client.map(
            function,
            *([one] * len(blocks) for one in arguments),
            [one.number for one in blocks],
            key=[self._key(one) for one in blocks],
            pure=False,
            retries=0,
        )
        self._sent(futures, blocks)

    def _send_elsewhere(self, one: _Sent) -> None:
        """Send a failed block to a worker on which it has not failed."""
        options: dict[str, Any] = {}
        others = [name for name in threads_of(self.client) if name not in one.avoid]
        if one.avoid and others:
            options = {"workers": others, "allow_other_workers": True}
            one = replace(one, only=frozenset(others))
        future = self.client.submit(
            *self._task(),
            one.number,
            key=self._key(one),
            pure=False,
            retries=0,
            **options,
        )
        self._sent([future], [one])

    def _task(self) -> tuple[Any, ...]:
        """The function that computes a block, and its arguments before the block's number."""
        return (compute_block, *self.run_key)

    def _key(self, one: _Sent) -> str:
        stage = f"stage{self.stage}-" if self.stage >= 0 else ""
        return f"eyeshot-block-{stage}{self.run_key[1]}-{one.number}-{one.failures}-{one.moves}"

    def _sent(self, futures: Sequence[Any], blocks: Sequence[_Sent]) -> None:
        for future, one in zip(futures, blocks, strict=True):
            self._active[future] = one
            future.add_done_callback(self._back.put)

    def _receive(self) -> list[_Sent]:
        """Wait for finished blocks; return those that must be sent again."""
        try:
            futures = [self._back.get(timeout=_LOOK)]
        except queue.Empty:
            return self._look()
        while not self._back.empty():
            futures.append(self._back.get_nowait())
        futures = [one for one in futures if one in self._active]
        finished = [one for one in futures if one.status == "finished"]
        answers = self._gathered(finished)
        again = []
        for future in futures:
            sent = self._active.pop(future)
            answer = answers.get(future)
            if answer is None:
                again += self._lost(future, sent)
            elif "failed" in answer:
                again += self._failed(sent, f"{answer['failed']}", answer)
            else:
                self._take(sent.number, answer)
        self._tell()
        return again

    def _gathered(self, futures: list[Any]) -> dict[Any, dict[str, Any]]:
        """The results of these futures, without those whose answer is lost."""
        if not futures:
            return {}
        try:
            found: list[dict[str, Any]] = self.client.sync(
                partial(self.client.gather, futures, asynchronous=True), callback_timeout=_ANSWER
            )
        except Exception as error:  # the scheduler, or a worker with an answer, is dead or mute
            if self.client.status != "running":
                self.ended = f"the scheduler is gone ({one_line(str(error), 100)})"
                return {}
            return dict(self._one_by_one(futures))
        return dict(zip(futures, found, strict=True))

    def _one_by_one(self, futures: list[Any]) -> Iterator[tuple[Any, dict[str, Any]]]:
        """The answers that can still be read: a lost one does not lose the others."""
        until = monotonic() + _ANSWER
        for future in futures:
            with suppress(Exception):  # its block is computed again
                patience = max(_BRIEFLY, until - monotonic())
                yield future, future.result(timeout=patience)

    def _lost(self, future: Any, sent: _Sent) -> list[_Sent]:
        """A task without an answer: its worker was killed, or the scheduler has stopped.

        Its worker may also have been killed after it had computed the block and before its answer
        was read: Dask calls such an answer lost, and only what the scheduler forgets cancelled.
        """
        if self.client.status != "running" or future.status == "cancelled":
            self.ended = self.ended or "the scheduler is gone, or has dropped the run"
            return []
        if future.status != "error":
            return self._failed(sent, "its answer was lost with a worker", {})
        error = future.exception(timeout=_ANSWER)
        worker = getattr(getattr(error, "last_worker", None), "address", "")
        reason = f"worker {worker} died" if worker else one_line(f"{type(error).__name__}: {error}")
        return self._failed(sent, reason, {"worker": worker})

    def _failed(self, sent: _Sent, why: str, answer: Mapping[str, Any]) -> list[_Sent]:
        if answer.get("final"):
            raise BadValue(why, cure=str(answer.get("cure", "")))
        if sent.failures < self.retries:
            avoid = {*sent.avoid, str(answer.get("worker", ""))} - {""}
            return [_Sent(sent.number, sent.failures + 1, frozenset(avoid))]
        self.failed[sent.number] = why
        self._in_a_row += 1
        if self._in_a_row >= _HOPELESS:
            self.ended = f"{_HOPELESS} blocks in a row failed"
        return []

    def _take(self, number: int, answer: Mapping[str, Any]) -> None:
        """Record a block that is written."""
        for name, checksum in answer["checksums"].items():
            self.sinks[name].record(Record(number, checksum, answer["readings"]))
        self.done.add(number)
        self._in_a_row = 0
        self.extremes.merge(answer["extremes"])
        self.spent.add(answer)
        self._blank += answer["blank"] * self._rows[number]
        self._outside += answer["outside"] * self._rows[number]
        self._rows_done += self._rows[number]

    def _look(self) -> list[_Sent]:
        """Whether the scheduler and its workers are still there; blocks to send again.

        Dask 2026.8 does not give a task to a new worker if all those that it was sent to are gone,
        although others are allowed.
        """
        if self.client.status != "running":
            self.ended = "the scheduler is gone"
            return []
        try:
            there = set(self.client.nthreads())
        except Exception as error:  # it stopped a moment ago
            self.ended = f"the scheduler is gone ({type(error).__name__})"
            return []
        self._workers = len(there)
        if self._workers:
            self._seen_worker = monotonic()
        elif monotonic() - self._seen_worker > WAIT_FOR_WORKERS:
            self.ended = f"no worker was there for {WAIT_FOR_WORKERS:.0f} seconds"
        left = [one for one, sent in self._active.items() if sent.only and not sent.only & there]
        again = [self._active.pop(one) for one in left]
        if left:
            self.client.cancel(left, force=True)
        return [replace(sent, only=frozenset(), moves=sent.moves + 1) for sent in again]

    def report(self) -> ClusterReport:
        """The progress of the run."""
        rows = max(1, self._rows_done)
        return ClusterReport(
            self._rows_done,
            self._all_rows,
            self.spent.megapixels,
            monotonic() - self.spent.since,
            self.spent.multiply_adds,
            self.spent.peak,
            blank=self._blank / rows,
            outside=self._outside / rows,
            blocks=len(self.before) + len(self.done),
            all_blocks=len(self.blocks),
            before=len(self.before),
            workers=self._workers,
            stage=self.stage + 1,
            stages=len(self.run.stages),
        )

    def _tell(self) -> None:
        if self.progress is not None:
            self.progress(self.report())

    def report_missing(self, asked: Sequence[int]) -> None:
        """Raise if blocks are missing.

        Raises:
            Failure: some are; they are listed.
        """
        missing = [number for number in asked if number not in self.done]
        if not missing:
            return
        blocks = self.blocks
        for number, why in list(self.failed.items())[:_LISTED]:
            warnings.warn(f"block {blocks.region_in_words(number)}: {why}", stacklevel=4)
        listed = " ".join(blocks.region_in_words(number) for number in missing[:_LISTED])
        more = f" and {len(missing) - _LISTED} more" if len(missing) > _LISTED else ""
        why = self.ended or next(iter(self.failed.values()), "")
        stage = f"stage {self.stage + 1}: " if self.stage >= 0 else ""
        raise Failure(
            f"{self.run.targets[0]}: {stage}{len(missing)} of {len(blocks)} blocks are missing: "
            f"{listed}{more}" + (f" ({why})" if why else ""),
            cure="continue with --resume; the finished blocks are kept",
        )


@dataclass
class StageDispatch(BlockDispatch):
    """Blocks of a stage that gathers statistics of maps."""

    states: dict[int, Any] = field(default_factory=dict)
    maps: dict[int, dict[str, int]] = field(default_factory=dict)
    read: dict[int, int] = field(default_factory=dict)

    def _task(self) -> tuple[Any, ...]:
        return (gather_block, *self.run_key, self.stage)

    def _take(self, number: int, answer: Mapping[str, Any]) -> None:
        self.states[number], self.read[number] = answer["state"], answer["read"]
        self.maps[number] = answer["maps"]
        self.done.add(number)
        self._in_a_row = 0
        self.spent.add(answer)
        self._rows_done += self._rows[number]


@dataclass
class ReadingDispatch(BlockDispatch):
    """Blocks of the first stage whose samples are only read again."""

    read: dict[int, int] = field(default_factory=dict)

    def _task(self) -> tuple[Any, ...]:
        return (read_block_again, *self.run_key, self.stage)

    def _key(self, one: _Sent) -> str:
        return f"{super()._key(one)}-again"

    def _take(self, number: int, answer: Mapping[str, Any]) -> None:
        self.read[number] = answer["read"]
        self.done.add(number)
        self._rows_done += self._rows[number]

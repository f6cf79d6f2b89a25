"""A small slice of the fuzzer, always the same; and the fuzzer notices what it is for."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest
from tools.fuzzing import worker
from tools.fuzzing.seeds import make_seeds
from tools.fuzzing.uses import commands_of, uses_of
from tools.fuzzing.worker import Plan, attempt

from eyeshot.errors import BadFile

INPUTS = 150


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return Plan(tuple(make_seeds(tmp_path_factory.mktemp("seeds"), programs=False)), 0, 0.0)


@pytest.fixture(scope="module")
def beside(plan: Plan) -> Path:
    return plan.seeds[0].parent


def test_every_seed_is_read_as_it_is(plan: Plan, beside: Path, tmp_path: Path) -> None:
    for seed in plan.seeds:
        for use in uses_of(seed):
            use(seed)


def test_damaged_files_end_in_an_answer_or_in_one_line(plan: Plan, beside: Path) -> None:
    wrong = {number: attempt(plan, number, beside) for number in range(INPUTS)}
    assert {number: said for number, said in wrong.items() if said} == {}


def test_an_input_is_the_same_each_time(plan: Plan, tmp_path: Path) -> None:
    made = []
    for name in "ab":
        (tmp_path / name).mkdir()
        path, _ = plan.damage(7, tmp_path / name)
        files = [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.is_file())
        made.append([file.read_bytes() for file in files])
    assert made[0] == made[1]


def _raise(error: Exception) -> object:
    raise error


def _fill_new_memory(size: int) -> None:
    """Not from the allocator, which may have that much left of an earlier test's."""
    with mmap.mmap(-1, size) as memory:
        for at in range(0, size, mmap.PAGESIZE):
            memory[at] = 1


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (lambda path: _raise(KeyError("x")), "KeyError"),
        (lambda path: _fill_new_memory(2**26), "MB"),
        (lambda path: _raise(BadFile("too long")).__class__, ""),
        (lambda path: __import__("os").write(2, b"libpng error"), "libpng error"),
    ],
)
def test_the_fuzzer_sees(
    use: object, said: str, plan: Plan, beside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "uses_of", lambda path: [use])
    monkeypatch.setattr(worker, "MOST_GROWTH", 2**23)
    found = attempt(plan, 3, beside)
    assert said in found
    assert bool(found) == bool(said)


def test_commands_name_the_file(plan: Plan, beside: Path) -> None:
    named = [seed for seed in plan.seeds if commands_of(seed, beside)]
    assert len(named) > 20
    assert all(str(seed) in one for seed in named for one in commands_of(seed, beside))

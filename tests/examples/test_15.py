"""Kernel sizes: stacks of 3×3 see as much as large kernels, for less."""

from __future__ import annotations

from . import load

example = load("15")


def test_field_parameters_and_work() -> None:
    blocks = {name: example.measure(kernels, 0, 0) for name, kernels in example.BLOCKS.items()}
    assert [block.field for block in blocks.values()] == [3, 5, 5, 7, 7]
    for small, large, weights in (
        ("3×3, 3×3", "5×5", (18, 25)),
        ("3×3, 3×3, 3×3", "7×7", (27, 49)),
    ):
        kernels = example.BLOCKS[small]
        assert blocks[small].field == blocks[large].field
        assert blocks[small].parameters == 16 * 16 * weights[0] + 16 * len(kernels)
        assert blocks[large].parameters == 16 * 16 * weights[1] + 16
        assert blocks[small].multiply_adds * weights[1] == blocks[large].multiply_adds * weights[0]


def test_a_stack_learns_as_well_as_the_kernel_that_it_replaces() -> None:
    two, five = (example.measure(example.BLOCKS[name], 120, 1) for name in ("3×3, 3×3", "5×5"))
    assert two.accuracies[0] > 0.85
    assert two.accuracies[0] > five.accuracies[0] - 0.03

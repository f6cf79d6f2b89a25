"""Up-sampling: 2×2 to larger, three ways."""

from __future__ import annotations

from . import load

example = load("06")


def test_nearest_and_bilinear() -> None:
    made = example.copy_and_mix()
    assert made["nearest"].tolist() == [[1, 1, 2, 2]] * 2 + [[3, 3, 4, 4]] * 2
    assert made["bilinear"][0].tolist() == [1, 1.25, 1.75, 2]
    corners = made["bilinear, corners aligned"][[0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.tolist() == [1, 2, 3, 4]


def test_the_steps_of_a_transposed_convolution() -> None:
    steps = example.transpose()
    assert steps["zeros inserted"].tolist() == [[1, 0, 2], [0, 0, 0], [3, 0, 4]]
    assert steps["and around"].shape == (7, 7)
    assert steps["transposed convolution"].shape == (5, 5)
    # The middle meets all four cells through the corners of the kernel: (1 + 2 + 3 + 4) / 4.
    assert steps["transposed convolution"][2, 2] == 2.5

"""PyTorch in float64, and central differences: two ways to know a gradient that are not ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from hypothesis import strategies as st

from eyeshot.reference.padding import Array


def assert_equal(ours: Array, theirs: torch.Tensor | Array) -> None:
    theirs = theirs.detach().numpy() if isinstance(theirs, torch.Tensor) else theirs
    np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10)


def by_autograd(
    f: Callable[..., torch.Tensor], arrays: Sequence[Array], gradient: Array
) -> tuple[torch.Tensor, ...]:
    """∂(f · gradient) / ∂ each array, by PyTorch."""
    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
    return torch.autograd.grad(f(*tensors), tensors, torch.from_numpy(gradient))


def by_differences(
    f: Callable[..., Array], arrays: Sequence[Array], gradient: Array, step: float = 1e-6
) -> list[Array]:
    """∂(f · gradient) / ∂ each array, one number at a time, from both sides."""
    slopes = []
    for array in arrays:
        slope = np.zeros_like(array)
        for at in np.ndindex(*array.shape):
            original = array[at]
            array[at] = original + step
            above = (f(*arrays) * gradient).sum()
            array[at] = original - step
            below = (f(*arrays) * gradient).sum()
            array[at] = original
            slope[at] = (above - below) / (2 * step)
        slopes.append(slope)
    return slopes


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


def distinct(seed: int, *shape: int) -> Array:
    """All numbers different and well apart, so that the largest stays the largest for a step."""
    numbers = np.random.default_rng(seed).permutation(int(np.prod(shape)))
    return (numbers - numbers.size / 2).reshape(shape) / 4.0


def each_axis(axes: int, least: int, most: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.tuples(*[st.integers(least, most)] * axes)


seeds = st.integers(0, 2**16)

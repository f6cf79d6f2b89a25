"""The rest of a small network: linear, ReLU, and the loss that a classifier is trained with."""

from __future__ import annotations

import numpy as np

from eyeshot.errors import BadValue
from eyeshot.reference.convolution import Gradients
from eyeshot.reference.padding import Array, check_bias, check_gradient, widen


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """y = x·Wᵀ + b: every output is a weighted sum of all inputs.

    Args:
        x: (N, I).
        weight: (O, I), a row of weights for every output.
        bias: (O,).

    Returns:
        (N, O).

    Raises:
        BadValue: shapes that do not fit.
    """
    _check_linear(x, weight)
    check_bias(bias, weight.shape[0])
    y = widen(x) @ widen(weight).T
    return y if bias is None else y + bias


def linear_backward(gradient: Array, x: Array, weight: Array) -> Gradients:
    """The gradients of :func:`linear` for ∂loss/∂output ``gradient`` (N, O).

    Raises:
        BadValue: shapes that do not fit.
    """
    _check_linear(x, weight)
    check_gradient(gradient, (x.shape[0], weight.shape[0]))
    return Gradients(x=gradient @ weight, weight=gradient.T @ x, bias=gradient.sum(axis=0))


def relu(x: Array) -> Array:
    """max(x, 0) at every cell, of any shape."""
    return np.maximum(x, 0)


def relu_backward(gradient: Array, x: Array) -> Array:
    """∂loss/∂x of :func:`relu`: the gradient where x > 0, else 0 (also at exactly 0).

    Raises:
        BadValue: ``gradient`` and ``x`` differ in shape.
    """
    check_gradient(gradient, x.shape)
    return np.where(x > 0, gradient, 0)


def softmax(logits: Array) -> Array:
    """(N, K) scores as probabilities: exp(z_k) / Σ_j exp(z_j), each row adding up to one."""
    # Subtracting the largest score changes nothing and keeps exp() from overflowing.
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Array = powers / powers.sum(axis=1, keepdims=True)
    return shares


def softmax_cross_entropy(logits: Array, labels: Array) -> float:
    """The mean over the batch of −log(probability of the right class).

    Args:
        logits: (N, K) scores before softmax.
        labels: (N,) whole numbers, 0 to K − 1.

    Raises:
        BadValue: labels that do not fit the logits.
    """
    _check_labels(logits, labels)
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_shares = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return float(-log_shares[np.arange(len(labels)), labels].mean())


def softmax_cross_entropy_backward(logits: Array, labels: Array) -> Array:
    """∂loss/∂logits (N, K): (probabilities − the right answer) / N.

    Raises:
        BadValue: labels that do not fit the logits.
    """
    _check_labels(logits, labels)
    gradient = softmax(logits)
    gradient[np.arange(len(labels)), labels] -= 1
    return gradient / len(labels)


def _check_linear(x: Array, weight: Array) -> None:
    if x.ndim != 2 or weight.ndim != 2 or x.shape[1] != weight.shape[1]:
        raise BadValue(
            f"a linear layer of weight {weight.shape} on an input of shape {x.shape}",
            cure="give x (N, I) and weight (O, I)",
        )


def _check_labels(logits: Array, labels: Array) -> None:
    if logits.ndim != 2 or 0 in logits.shape or labels.shape != logits.shape[:1]:
        raise BadValue(
            f"labels of shape {labels.shape} for logits of shape {logits.shape}",
            cure="give logits (N, K) and labels (N,)",
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise BadValue(f"labels of type {labels.dtype}", cure="give whole numbers")
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise BadValue(
            f"labels from {labels.min()} to {labels.max()} for {logits.shape[1]} classes",
            cure=f"use 0 to {logits.shape[1] - 1}",
        )

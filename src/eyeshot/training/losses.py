"""Losses of pixels, over those pixels alone whose answer is what it will be in the whole image."""

from __future__ import annotations

import torch
from torch import Tensor

from eyeshot.errors import UnknownName

LOSSES = ("l1", "mse")
_SMOOTHING = 1.0  # pixels


def segmentation_loss(
    scores: Tensor, labels: Tensor, valid: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Soft Dice loss and cross-entropy, added.

    The Dice of a class is 2 Σ p·y / (Σ p + Σ y) over all valid pixels of the batch together, p the
    class's probability and y 1 where the pixel is of it, with one pixel added above and below so
    that a class that is not there counts as found; its loss is 1 less the mean over classes. The
    cross-entropy is the mean over valid pixels, each weighted by its class's weight.

    Sources: Milletari et al., 2016, arXiv:1606.04797, with the plain sums of Drozdzal et al., 2016,
    arXiv:1608.04117; taken over the batch and added to the cross-entropy as by Isensee et al.,
    2018, arXiv:1809.10486.

    Args:
        scores: (B, classes, H, W); of volumes (B, classes, D, H, W), of signals (B, classes, L).
        labels: class numbers, int64 (B, H, W); what they say where not valid is not looked at.
        valid: bool (B, H, W).
        weights: (classes,); None for all the same.
    """
    logs = scores.float().log_softmax(1)
    classes = torch.arange(scores.shape[1], device=scores.device)
    classes = classes.view(-1, *(1 for _ in labels.shape[1:]))
    truth = (labels.unsqueeze(1) == classes) & valid.unsqueeze(1)
    return _dice_loss(logs.exp(), truth, valid) + _cross_entropy(logs, truth, weights)


def _dice_loss(shares: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    everywhere = (0, *range(2, shares.ndim))
    both = (shares * truth).sum(everywhere)
    said = (shares * valid.unsqueeze(1)).sum(everywhere)
    there = truth.sum(everywhere)
    dice = (2 * both + _SMOOTHING) / (said + there + _SMOOTHING)
    return 1 - dice.mean()


def _cross_entropy(logs: Tensor, truth: Tensor, weights: Tensor | None) -> Tensor:
    everywhere = (0, *range(2, logs.ndim))
    sums = -(logs * truth).sum(everywhere)
    counts = truth.sum(everywhere)
    if weights is not None:
        sums, counts = sums * weights, counts * weights
    # No pixel at all is valid: nothing to learn, and nothing to divide by.
    return sums.sum() / counts.sum().clamp(min=1e-6)


def restoration_loss(kind: str, pictures: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """Mean absolute (``l1``) or squared (``mse``) difference over valid pixels and all channels.

    Args:
        kind: ``"l1"`` or ``"mse"``.
        pictures: (B, C, H, W).
        targets: the same.
        valid: bool (B, H, W).

    Raises:
        UnknownName: no such loss.
    """
    if kind not in LOSSES:
        raise UnknownName("loss", kind, LOSSES)
    difference = pictures - targets
    wrong = difference.abs() if kind == "l1" else difference.square()
    count = valid.sum().clamp(min=1) * pictures.shape[1]
    return (wrong * valid.unsqueeze(1)).sum() / count

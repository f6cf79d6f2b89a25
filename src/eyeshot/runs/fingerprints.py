"""A short name for a set of pictures, so that one set is not taken for another."""

from __future__ import annotations

import hashlib

from eyeshot.data import Data, Examples

_SAMPLE = 16


def fingerprint(data: Data) -> str:
    """16 hexadecimal digits that are others for any other pictures, labels or classes.

    Of a set that is streamed from files only a sample of the pictures is read, and all labels.
    """
    digest = hashlib.sha256(repr((data.classes, data.train.shape, data.test.shape)).encode())
    for examples in (data.train, data.test):
        digest.update(examples.labels.numpy().tobytes())
        digest.update(_pixels(examples))
    return digest.hexdigest()[:16]


def _pixels(examples: Examples) -> memoryview:
    if examples.held:
        images = examples.images
    else:
        step = max(1, len(examples) // _SAMPLE)
        images, _ = examples.take(range(0, len(examples), step))
    return images.contiguous().numpy().data

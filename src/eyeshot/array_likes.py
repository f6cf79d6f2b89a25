"""An image that a program holds in memory, as an array: what its owner sees, never its codes.

``np.asarray`` gives the palette indices of a Pillow image, its inks or its hues, and drops the mask
of a masked array: numbers with another meaning, and no warning.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from eyeshot.errors import BadValue
from eyeshot.language import tr

if TYPE_CHECKING:
    from PIL import Image

_BAND = 256  # rows
_AS_THEY_ARE = {"L", "LA", "RGB", "RGBA", "I", "F", "I;16", "I;16L", "I;16B"}
_BLENDED = {"La": "LA", "RGBa": "RGBA"}  # alpha multiplied into the colors


def as_array(image: Any) -> NDArray[Any]:
    """An array of an image's samples.

    Args:
        image: an array, what NumPy makes an array of, a CPU tensor, or a Pillow image, of which it
            gives gray or colors (H, W) or (H, W, C), not turned by its EXIF.

    Raises:
        BadValue: a tensor that NumPy cannot hold, or a masked array with hidden numbers.
    """
    if is_pillow(image):
        return samples_of(image)
    torch = sys.modules.get("torch")  # a caller with a tensor has imported torch
    if torch is not None and isinstance(image, torch.Tensor):
        plain = image.device.type == "cpu" and image.dtype != torch.bfloat16
        if not plain or image.layout != torch.strided:
            kind = f"{image.dtype} on {image.device}"
            if image.layout != torch.strided:
                kind = f"{image.layout}"
            cure = "to_dense()" if image.layout != torch.strided else "float().cpu()"
            raise BadValue(
                tr("a tensor of {kind}", kind=kind), cure=tr("pass image.{call}", call=cure)
            )
        tensor: NDArray[Any] = image.detach().resolve_conj().resolve_neg().numpy()
        return tensor
    check_unmasked(image)
    array: NDArray[Any] = np.asanyarray(image)
    return array


def check_unmasked(image: Any) -> None:
    """Refuse a masked array that hides numbers.

    Raises:
        BadValue: it does.
    """
    if isinstance(image, np.ma.MaskedArray) and np.ma.is_masked(image):
        raise BadValue(
            tr("a masked array, of which {n} numbers are hidden", n=int(image.mask.sum())),
            cure=tr("fill them first, such as with image.filled(0)"),
        )


def is_pillow(image: Any) -> TypeGuard[Image.Image]:
    """Whether it is an image of Pillow."""
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(image, pillow.Image)


def not_turned(turn: int) -> str:
    """What the owner of a Pillow image should know, if its EXIF orientation is ``turn``."""
    return tr(
        "not turned by its EXIF (orientation {turn}); PIL.ImageOps.exif_transpose does it",
        turn=turn,
    )


def has_alpha(image: Image.Image) -> bool:
    """Whether the last channel of :func:`samples_of` is alpha."""
    return image.mode in ("LA", "RGBA", "PA", *_BLENDED) or (
        image.mode == "P" and "transparency" in image.info
    )


def samples_of(image: Image.Image, *, indices: bool = False) -> NDArray[Any]:
    """The samples of a Pillow image: (H, W) of gray, (H, W, C) of colors.

    A palette becomes colors, inks and other color spaces become RGB, one bit becomes 0 and 255.

    Args:
        image: is not changed.
        indices: keep the indices into a palette.
    """
    mode = image.mode
    if mode in ("P", "PA"):
        if not (indices and mode == "P"):
            image = image.convert("RGBA" if has_alpha(image) else "RGB")
    elif mode == "1":
        image = image.convert("L")
    elif mode not in _AS_THEY_ARE:
        image = image.convert(_BLENDED.get(mode, "RGB"))
    line = np.asarray(image.crop((0, 0, image.width, 1)))
    dtype = line.dtype.newbyteorder("=")
    if image.mode == "I" and image.format == "PPM":
        dtype = np.dtype(np.uint16)  # Pillow has scaled them to 16 bits
    samples = np.empty((image.height, *line.shape[1:]), dtype)
    for top in range(0, image.height, _BAND):  # in bands: Pillow makes two copies of its result
        bottom = min(top + _BAND, image.height)
        samples[top:bottom] = np.asarray(image.crop((0, top, image.width, bottom)))
    return samples

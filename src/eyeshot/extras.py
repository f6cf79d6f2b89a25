"""Packages that only some uses need: ``pip install 'eyeshot[train]'`` and its kin bring them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module

from eyeshot.errors import Failure

EXTRAS: Mapping[str, tuple[str, ...]] = {
    "fast": ("llvmlite",),
    "train": ("kornia", "lightning_fabric"),
    "report": ("matplotlib",),
    "studio": ("anywidget", "starlette", "uvicorn"),
    "images": ("imagecodecs", "numcodecs", "zarr"),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "dask": ("distributed",),
    "remote": ("aiohttp", "fsspec", "s3fs"),
    "nifti": ("nibabel",),
    "bioimageio": ("bioimageio",),
    "tensorboard": ("tensorboardX",),
    "mlflow": ("mlflow",),
    "wandb": ("wandb",),
}
"""Extra -> the modules that it brings, as pyproject.toml lists their packages."""


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Name the extra to install where an import in the block finds that its package is missing.

    Args:
        name: of the extra that brings what the block imports.

    Raises:
        Failure: one of its packages is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in EXTRAS[name]:
            raise
        raise not_installed(missing, name) from None


def not_installed(package: str, name: str) -> Failure:
    """The error for a package of an extra that is not installed."""
    return Failure(f"{package} is not installed", cure=f"pip install 'eyeshot[{name}]'")


def is_installed(package: str) -> bool:
    """Whether a module can be imported."""
    try:
        import_module(package)
    except ModuleNotFoundError:
        return False
    return True

"""A network as a model of BioImage.IO 0.5: ONNX weights, tests, a cover, and metadata."""

from __future__ import annotations

import io
import math
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from eyeshot.errors import BadValue, Failure, Unsupported, one_line
from eyeshot.exporting.onnx_files import (
    AXES,
    Exported,
    Options,
    Target,
    by_channel,
    onnx_of,
    tensors_of,
)
from eyeshot.extras import extra
from eyeshot.files import write_aside
from eyeshot.frontends.aliasing import hushed
from eyeshot.frontends.net_geometry import NetGeometry
from eyeshot.frontends.trials import runs_on_shapes
from eyeshot.geometry.sizes import OutputGeometry
from eyeshot.pictures import png_bytes
from eyeshot.untouched import untouched

_COVER_SIDE = 256


@dataclass(frozen=True)
class _Sizes:
    """What sizes a model says it takes, along every axis of space.

    Attributes:
        least: the smallest.
        step: from one to the next; 0 for one size alone.
        halo: pixels of the input to be cut off at each side, a multiple of the step.
        geometry: of its output; None where that is no map of bounded fields.
    """

    least: tuple[int, ...]
    step: int
    halo: int
    geometry: OutputGeometry | None


def write_package(target: Target, path: Path, options: Options) -> Exported:
    """Write ``path``: a package that ``bioimageio.spec`` validates and ``bioimageio.core`` tests.

    Raises:
        BadValue: there is no license.
        Unsupported: the network cannot be exported, or answers with several tensors.
        Failure: the extra ``bioimageio`` is not installed, or the package does not pass its test.
    """
    if not options.license:
        cure = "give one by its SPDX name: --license CC-BY-4.0"
        raise BadValue("a BioImage.IO model without a license", cure=cure)
    with extra("bioimageio"):
        import bioimageio.core
        import bioimageio.spec
    content, shapes, apart, notes = onnx_of(target, target.net, options.opset)
    sizes = _sizes(target)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "weights.onnx").write_bytes(content)
        _write_tests(target, sizes, folder)
        (folder / "README.md").write_text(_readme(target, sizes, options), encoding="utf-8")
        description = _validated(target, sizes, folder, options)
        with write_aside(path) as aside:
            made = folder / "model.zip"
            bioimageio.spec.save_bioimageio_package(description, output_path=made)
            _test(made)
            aside.write_bytes(made.read_bytes())
    kind = f"BioImage.IO model {description.format_version}, tested by bioimageio.core"
    return Exported(path, kind, shapes, apart, (*notes, *_omissions(sizes)))


def _sizes(target: Target) -> _Sizes:
    """The sizes that a model claims: multiples of the network's grid that it takes."""
    sides = target.size[1:]
    geometry = _geometry(target)
    if geometry is None or not target.growths:
        return _Sizes(sides, 0, 0, geometry)
    takes, channels, grid = runs_on_shapes(target.net), target.size[0], geometry.alignment
    halo = -(-geometry.halo // grid) * grid if geometry.padded else 0
    least = -(-(2 * halo + 1 + 2 * geometry.margin) // grid) * grid
    for start in range(least, least + 64 * grid, grid):
        tried = [(1, channels, *[start + k * grid] * len(sides)) for k in range(4)]
        if all(map(takes, tried)):
            return _Sizes((start,) * len(sides), grid, halo, geometry)
    return _Sizes(sides, 0, 0, geometry)


def _geometry(target: Target) -> OutputGeometry | None:
    try:
        return NetGeometry(target.net, target.size[0]).output if len(target.size) == 3 else None
    except (Unsupported, BadValue):
        return None


def _write_tests(target: Target, sizes: _Sizes, folder: Path) -> None:
    """The tensors that the model is tested by, and its cover."""
    shape = (target.size[0], *(n + 2 * sizes.step for n in sizes.least))
    x = _blobs(shape)
    run = target.run
    inputs = x
    if run is not None:
        config, axes = run.config, len(run.config.size)
        mean, std = (by_channel(one, axes) for one in (config.mean, config.std))
        inputs = (x - mean) / std
    with untouched(target.net), torch.no_grad():
        outputs = tensors_of(target.net(inputs.clone()))  # forward may write into it
    if len(outputs) != 1:
        raise Unsupported(f"{len(outputs)} outputs", cure="export a network of one output")
    np.save(folder / "input.npy", x.numpy())
    np.save(folder / "output.npy", outputs[0].numpy())
    (folder / "cover.png").write_bytes(png_bytes(_cover(x[0], outputs[0][0])))


def _blobs(shape: Sequence[int]) -> torch.Tensor:
    """Smooth noise in 0 … 1, (1, C, …)."""
    generator = torch.Generator().manual_seed(0)
    mode = {2: "linear", 3: "bilinear", 4: "trilinear"}[len(shape)]
    coarse = torch.rand(1, shape[0], *(-(-n // 8) + 1 for n in shape[1:]), generator=generator)
    return F.interpolate(coarse, tuple(shape[1:]), mode=mode).clamp(0, 1)


def _cover(x: torch.Tensor, answer: torch.Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The input beside the answer, uint8 (256, 512, 3)."""
    halves = []
    for one in (x, answer.softmax(0)[-1:] if len(answer) > 1 else answer):
        while one.ndim > 3:
            one = one[:, one.shape[1] // 2]
        one = one.reshape(len(one), *(1,) * (3 - one.ndim), *one.shape[1:])[:3]
        one = one if len(one) == 3 else one[:1].expand(3, *one.shape[1:])
        low, high = float(one.min()), float(one.max())
        scaled = (one - low) / (high - low or 1.0)
        side = F.interpolate(scaled[None], (_COVER_SIDE, _COVER_SIDE))[0]
        halves.append((side * 255).round().to(torch.uint8).movedim(0, -1).numpy())
    return np.concatenate(halves, axis=1)


def _validated(target: Target, sizes: _Sizes, folder: Path, options: Options) -> Any:
    """The model's description, which the format allows.

    Raises:
        BadValue: a license that it does not know.
        Failure: bioimageio.spec refuses it for another reason.
    """
    try:
        return _described(target, sizes, folder, options)
    except ValueError as error:  # pydantic's
        problem = one_line(str(error), 300)
        if "license" in problem.lower():
            cure = "give an SPDX name, such as CC-BY-4.0 or MIT"
            raise BadValue(f"license {options.license}", cure=cure) from error
        cure = "pip install 'eyeshot[bioimageio]', which has versions that fit"
        raise Failure(f"bioimageio.spec refuses the model: {problem}", cure=cure) from error


def _described(target: Target, sizes: _Sizes, folder: Path, options: Options) -> Any:
    """The model's description, as ``bioimageio.spec`` knows it."""
    with extra("bioimageio"):
        from bioimageio.spec.model import v0_5 as spec

    names = [one.lower() for one in ("z", "y", "x")][-(len(target.size) - 1) :]
    answer = np.load(folder / "output.npy", allow_pickle=False)
    extents = [
        spec.ParameterizedSize(min=n, step=sizes.step) if sizes.step else n for n in sizes.least
    ]
    in_unit = target.run is None or target.run.config.in_unit
    extent = (0.0, 1.0) if in_unit else (None, None)
    image = spec.InputTensorDescr(
        id=spec.TensorId("image"),
        axes=[
            spec.BatchAxis(),
            spec.ChannelAxis(channel_names=[f"channel{i}" for i in range(target.size[0])]),
            *(
                spec.SpaceInputAxis(id=spec.AxisId(name), size=n, concatenable=bool(sizes.step))
                for name, n in zip(names, extents, strict=True)
            ),
        ],
        test_tensor=spec.FileDescr(source=folder / "input.npy"),
        data=spec.IntervalOrRatioDataDescr(type="float32", range=extent),
        preprocessing=_preprocessing(target, spec),
    )
    output = spec.OutputTensorDescr(
        id=spec.TensorId("scores"),
        axes=[
            spec.BatchAxis(),
            spec.ChannelAxis(channel_names=_classes(target, answer.shape[1])),
            *_output_axes(target, sizes, names, answer.shape[2:], spec),
        ],
        test_tensor=spec.FileDescr(source=folder / "output.npy"),
    )
    run = target.run
    return spec.ModelDescr(
        name=_name(target.name),
        description=f"{type(target.net).__name__}, exported by Eyeshot",
        authors=[spec.Author(name=name) for name in options.authors],
        license=options.license,
        documentation=spec.FileDescr(source=folder / "README.md"),
        covers=[spec.FileDescr(source=folder / "cover.png")],
        inputs=[image],
        outputs=[output],
        weights=spec.WeightsDescr(
            onnx=spec.OnnxWeightsDescr(source=folder / "weights.onnx", opset_version=options.opset)
        ),
        config=spec.Config.model_validate({"eyeshot": _exact(sizes, run is not None)}),
    )


def _preprocessing(target: Target, spec: Any) -> list[Any]:
    if target.run is None:
        return []
    config = target.run.config
    kwargs = spec.FixedZeroMeanUnitVarianceAlongAxisKwargs(
        axis=spec.AxisId("channel"), mean=list(config.mean), std=list(config.std)
    )
    return [spec.FixedZeroMeanUnitVarianceDescr(kwargs=kwargs)]


def _output_axes(
    target: Target, sizes: _Sizes, names: Sequence[str], extents: Sequence[int], spec: Any
) -> list[Any]:
    """The axes of space of the answer; none of a classifier."""
    if not extents:
        return []
    if sizes.geometry is None or not sizes.step:
        return [
            spec.SpaceOutputAxis(id=spec.AxisId(name), size=n)
            for name, n in zip(names, extents, strict=True)
        ]
    axes = []
    for name, stride in zip(names, sizes.geometry.stride, strict=True):
        size = spec.SizeReference(
            tensor_id=spec.TensorId("image"),
            axis_id=spec.AxisId(name),
            offset=-math.floor(2 * sizes.geometry.margin / stride),
        )
        common = {"id": spec.AxisId(name), "size": size, "scale": float(stride)}
        halo = math.ceil(sizes.halo / stride)
        kind = spec.SpaceOutputAxisWithHalo if halo else spec.SpaceOutputAxis
        axes.append(kind(**common, **({"halo": halo} if halo else {})))
    return axes


def _classes(target: Target, count: int) -> list[str]:
    classes = target.run.config.classes if target.run is not None else ()
    return list(classes) if len(classes) == count else [f"channel{i}" for i in range(count)]


def _name(name: str) -> str:
    """What the format allows: letters, digits, and a few signs; five or more of them."""
    allowed = "".join(c if c.isalnum() or c in "_+- ()" else " " for c in name).strip()
    return allowed if len(allowed) >= 5 else f"{allowed} network".strip()


def _exact(sizes: _Sizes, is_run: bool) -> dict[str, Any]:
    """What the format cannot say: the halo of each side, and the fields of each phase."""
    geometry = sizes.geometry
    details: dict[str, Any] = {"axes": list(AXES[len(sizes.least)]) if len(sizes.least) < 4 else []}
    if geometry is not None:
        details |= {
            "halo_before": geometry.before,
            "halo_after": geometry.after,
            "grid": geometry.alignment,
            "largest_receptive_field": list(geometry.receptive_field),
            "smallest_receptive_field": list(geometry.smallest_field),
            "output_margin": geometry.margin,
        }
    return details


def _omissions(sizes: _Sizes) -> tuple[str, ...]:
    geometry = sizes.geometry
    if geometry is None:
        return ("no halo: no bounded patch of the image decides an output of this network",)
    return (
        f"halo {sizes.halo} at every side; BioImage.IO cannot say that {geometry.before} before "
        f"and {geometry.after} after are enough, nor that phases differ: config.eyeshot does",
        "near the image's border its answer is another one: BioImage.IO pads the image, where the "
        "network pads its maps",
    )


def _readme(target: Target, sizes: _Sizes, options: Options) -> str:
    run = target.run
    lines = [f"# {target.name}", "", f"{type(target.net).__name__}, exported by Eyeshot.", ""]
    if run is not None:
        config = run.config
        size = "x".join(map(str, (config.channels, *config.size)))
        samples = target.samples.replace("…", "to")
        lines += [
            f"Trained for the task `{config.task}` on {Path(config.data).name}, at "
            f"{size}; {samples}, less the mean, over the deviation (in `preprocessing`).",
            "",
        ]
        if config.classes:
            lines += [f"Classes: {', '.join(config.classes)}.", ""]
    lines += ["# Tiles", "", *(f"- {note}" for note in _omissions(sizes)), ""]
    lines += [
        "# Validation",
        "",
        "`bioimageio test` compares the weights with the test tensors. On data of your own, hold "
        "its answers against yours before you rely on them.",
        "",
        f"License: {options.license}",
        "",
    ]
    return "\n".join(lines)


def _test(package: Path) -> None:
    """Run ``bioimageio.core``'s own test.

    Raises:
        Failure: it does not pass.
    """
    import bioimageio.core

    with hushed(), redirect_stderr(io.StringIO()):
        summary = bioimageio.core.test_model(package, weight_format="onnx")
    if summary.status not in ("passed", "valid-format"):
        errors = [e.msg for detail in summary.details for e in detail.errors]
        problem = one_line("; ".join(errors) or summary.status, 300)
        raise Failure(f"the package does not pass bioimageio.core's test: {problem}")
    if summary.status != "passed":
        raise Failure("bioimageio.core did not test the package", cure="please report it")

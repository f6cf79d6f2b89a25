"""Networks over brain waves, heart beats, music and volumes, of packages made for those."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

Build = Callable[[], tuple[nn.Module, tuple[int, ...]]]
Made = dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]]


class Called(nn.Module):
    """A network that is called by a function of it and the input."""

    def __init__(self, net: nn.Module, call: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.net, self.call = net, call

    def forward(self, x: Any) -> Any:
        """The call's result."""
        return self.call(self.net, x)


def waves(net: nn.Module) -> nn.Module:
    """A network of (N, L) waveforms as one of (N, 1, L)."""
    return Called(net, lambda inner, x: inner(x[:, 0]))


def named(package: str, made: Made) -> Iterator[tuple[str, Build]]:
    """Each network of a table under its package's name."""
    for name, (make, size) in made.items():

        def build(
            make: Callable[[], nn.Module] = make, size: tuple[int, ...] = size
        ) -> tuple[nn.Module, tuple[int, ...]]:
            return make(), size

        yield f"{package}/{name}".strip("/"), build


def torcheeg() -> Iterator[tuple[str, Build]]:
    """Brain waves, as grids of electrodes or as planes of electrodes and samples."""
    m: Any = importlib.import_module("torcheeg.models")
    grid: dict[str, Any] = {"chunk_size": 128, "grid_size": (9, 9), "hid_channels": 16, "depth": 1}
    electrodes: dict[str, Any] = {
        "num_electrodes": 8,
        "chunk_size": 128,
        "t_patch_size": 32,
        "hid_channels": 16,
        "depth": 1,
    }
    yield from named(
        "torcheeg",
        {
            "CCNN": (lambda: m.CCNN(), (4, 9, 9)),
            "EEGNet": (lambda: m.EEGNet(num_electrodes=12, chunk_size=151), (1, 12, 151)),
            "FBCCNN": (lambda: m.FBCCNN(), (4, 9, 9)),
            "FBCNet": (lambda: m.FBCNet(6, 128, 3, 8), (3, 6, 128)),
            "MTCNN": (lambda: m.MTCNN(), (8, 8, 9)),
            "STNet": (lambda: m.STNet(chunk_size=32), (32, 9, 9)),
            "TSCeption": (lambda: m.TSCeption(num_electrodes=8), (1, 8, 256)),
            "CSPNet": (lambda: m.CSPNet(chunk_size=400, num_electrodes=8), (1, 8, 400)),
            "TSLANet": (lambda: m.TSLANet(chunk_size=600, emb_dim=16), (1, 600)),
            "LMDA": (lambda: m.LMDA(num_electrodes=8, chunk_size=400), (1, 8, 400)),
            "GRU": (lambda: m.GRU(num_electrodes=8, hid_channels=8), (8, 40)),
            "LSTM": (lambda: m.LSTM(num_electrodes=8, hid_channels=8), (8, 40)),
            "ArjunViT": (lambda: m.ArjunViT(**electrodes), (8, 128)),
            "SimpleViT": (lambda: m.SimpleViT(**grid), (128, 9, 9)),
            "VanillaTransformer": (lambda: m.VanillaTransformer(**electrodes), (8, 128)),
            "ViT": (lambda: m.ViT(**grid), (128, 9, 9)),
        },
    )


def music() -> Iterator[tuple[str, Build]]:
    """Music and speech, as waveforms and as spectra."""
    unmix: Any = importlib.import_module("openunmix.model")
    audio: Any = importlib.import_module("torchaudio.models")
    yield from named(
        "music",
        {
            "OpenUnmix": (lambda: unmix.OpenUnmix(33, 2, 16, 1), (2, 33, 24)),
            "OpenUnmixForward": (
                lambda: unmix.OpenUnmix(33, 2, 16, 1, unidirectional=True),
                (2, 33, 24),
            ),
            "Wav2Vec2": (
                lambda: waves(
                    audio.wav2vec2_model(
                        "group_norm",
                        None,
                        False,
                        32,
                        0.0,
                        15,
                        4,
                        1,
                        4,
                        0.0,
                        48,
                        0.0,
                        0.0,
                        True,
                        0.0,
                        5,
                    )
                ),
                (1, 2000),
            ),
            "Wav2Letter": (lambda: audio.Wav2Letter(5, "mfcc", 13), (13, 96)),
            "MelResNet": (lambda: audio.wavernn.MelResNet(2, 8, 16, 16, 3), (8, 24)),
            "ConvTasNet": (lambda: audio.ConvTasNet(2, 16, 32, 3, 16, 32, 3, 2), (1, 640)),
        },
    )


def volumes() -> Iterator[tuple[str, Build]]:
    """Scans of a body: planar designs over three axes."""
    three: Any = importlib.import_module("segmentation_models_pytorch_3d")
    for head in ("Unet", "UnetPlusPlus", "FPN", "Linknet", "MAnet", "DeepLabV3"):

        def build(head: str = head) -> tuple[nn.Module, tuple[int, ...]]:
            kind = getattr(three, head)
            return kind("resnet18", encoder_weights=None, in_channels=1, classes=2), (1, 32, 32, 32)

        yield f"smp_3d/{head}", build
    timm_3d: Any = importlib.import_module("timm_3d")
    for name in ("resnet18", "densenet121", "mobilenetv3_small_050", "regnetx_002", "vgg11"):

        def classifies(name: str = name) -> tuple[nn.Module, tuple[int, ...]]:
            return timm_3d.create_model(name, num_classes=2, in_chans=1), (1, 32, 32, 32)

        yield f"timm_3d/{name}", classifies


def maps() -> Iterator[tuple[str, Build]]:
    """Images of the earth, of codes, and of points that are found again."""
    geo: Any = importlib.import_module("torchgeo.models")
    code: Any = importlib.import_module("compressai.models")
    found: Any = importlib.import_module("kornia.feature")
    quick = {"backbone_pretrained": False}
    yield from named(
        "torchgeo",
        {
            "FarSeg": (lambda: geo.FarSeg("resnet18", 3, **quick), (3, 64, 96)),
            "FCN": (lambda: geo.FCN(3, 5, 8), (3, 33, 40)),
            "RCF": (lambda: geo.RCF(3, 8, 3), (3, 33, 40)),
            "ChangeStarFarSeg": (
                lambda: Called(
                    geo.ChangeStarFarSeg("resnet18", 1, backbone_pretrained=False),
                    lambda net, x: net(x.unflatten(1, (2, 3))),
                ),
                (6, 64, 64),
            ),
            "FCSiamDiff": (
                lambda: Called(
                    geo.FCSiamDiff("resnet18", encoder_weights=None, classes=2),
                    lambda net, x: net(x.unflatten(1, (2, 3))),
                ),
                (6, 64, 64),
            ),
            "ConvLSTM": (
                lambda: Called(
                    geo.ConvLSTM(3, 4, 3, 1),
                    lambda net, x: net(x.unflatten(1, (2, 3)))[0][0],
                ),
                (6, 24, 32),
            ),
        },
    )
    yield from named(
        "compressai",
        {
            "FactorizedPrior": (lambda: code.FactorizedPrior(8, 12), (3, 64, 64)),
            "ScaleHyperprior": (lambda: code.ScaleHyperprior(8, 12), (3, 64, 64)),
            "MeanScaleHyperprior": (lambda: code.MeanScaleHyperprior(8, 12), (3, 64, 64)),
            "JointAutoregressive": (
                lambda: code.JointAutoregressiveHierarchicalPriors(8, 12),
                (3, 64, 64),
            ),
            "Cheng2020Anchor": (lambda: code.Cheng2020Anchor(8), (3, 64, 64)),
            "Cheng2020Attention": (lambda: code.Cheng2020Attention(8), (3, 64, 64)),
        },
    )
    yield from named(
        "kornia.feature",
        {
            "HardNet": (lambda: found.HardNet(False), (1, 32, 32)),
            "HardNet8": (lambda: found.HardNet8(False), (1, 32, 32)),
            "HyNet": (lambda: found.HyNet(False), (1, 32, 32)),
            "SOSNet": (lambda: found.SOSNet(False), (1, 32, 32)),
            "TFeat": (lambda: found.TFeat(False), (1, 32, 32)),
            "OriNet": (lambda: found.OriNet(False), (1, 32, 32)),
            "KeyNet": (lambda: found.KeyNet(False), (1, 48, 64)),
            "DISK": (
                lambda: Called(found.DISK(8), lambda net, x: net.heatmap_and_dense_descriptors(x)),
                (3, 64, 80),
            ),
            "XFeat": (lambda: found.XFeatModel(), (3, 64, 96)),
            "ALIKED": (
                lambda: Called(found.ALIKED("aliked-t16"), lambda net, x: net.extract_dense_map(x)),
                (3, 64, 96),
            ),
            "SIFTDescriptor": (lambda: found.SIFTDescriptor(32), (1, 32, 32)),
            "DenseSIFT": (lambda: found.DenseSIFTDescriptor(), (1, 40, 48)),
            "CornerHarris": (lambda: found.CornerHarris(0.04), (1, 40, 48)),
            "CornerGFTT": (lambda: found.CornerGFTT(), (1, 40, 48)),
            "BlobHessian": (lambda: found.BlobHessian(), (1, 40, 48)),
            "SOLD2": (lambda: found.SOLD2_detector(False).model, (1, 64, 64)),
        },
    )


SOURCES = (torcheeg, music, volumes, maps)

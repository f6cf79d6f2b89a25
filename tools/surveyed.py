"""Networks of other people's packages by name: how to build each, and the size it takes."""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

Build = Callable[[], tuple[nn.Module, tuple[int, ...]]]


def _timm() -> Iterator[tuple[str, Build]]:
    timm: Any = importlib.import_module("timm")

    seen: set[str] = set()
    for name in timm.list_models():
        family = re.split(r"[\d_.]", name)[0] + timm.models.model_entrypoint(name).__module__
        if family in seen:
            continue
        seen.add(family)

        def build(name: str = name) -> tuple[nn.Module, tuple[int, ...]]:
            net = timm.create_model(name, pretrained=False)
            size = net.default_cfg.get("input_size", (3, 224, 224))
            return net, tuple(size)

        yield f"timm/{name}", build


def _timm_features() -> Iterator[tuple[str, Build]]:
    timm: Any = importlib.import_module("timm")

    names = [
        "resnet18",
        "regnety_002",
        "efficientnet_b0",
        "convnext_atto",
        "convnextv2_atto",
        "swin_tiny_patch4_window7_224",
        "mobilenetv3_small_100",
        "hrnet_w18_small",
        "edgenext_xx_small",
        "fastvit_t8",
        "nfnet_l0",
        "ecaresnet26t",
        "seresnet18",
        "cspresnet50",
        "densenet121",
        "dla34",
        "ghostnet_100",
        "tinynet_a",
        "levit_128s",
        "maxvit_rmlp_pico_rw_256",
        "pvt_v2_b0",
        "poolformer_s12",
        "inception_v3",
        "xception41",
        "mobilevit_xxs",
        "coat_lite_tiny",
    ]
    for name in names:

        def build(name: str = name) -> tuple[nn.Module, tuple[int, ...]]:
            net = timm.create_model(name, pretrained=False, features_only=True)
            size = 256 if "256" in name or "mobilevit" in name else 224
            return net, (3, size, size)

        yield f"timm/features/{name}", build


def _smp() -> Iterator[tuple[str, Build]]:
    smp: Any = importlib.import_module("segmentation_models_pytorch")

    heads = [
        "Unet",
        "UnetPlusPlus",
        "MAnet",
        "Linknet",
        "FPN",
        "PSPNet",
        "PAN",
        "DeepLabV3",
        "DeepLabV3Plus",
        "UPerNet",
    ]
    encoders = [
        "resnet18",
        "timm-regnety_002",
        "efficientnet-b0",
        "mobilenet_v2",
        "se_resnet50",
        "densenet121",
        "vgg11_bn",
        "mit_b0",
        "timm-resnest14d",
        "xception",
        "dpn68",
        "mobileone_s0",
        "tu-convnext_atto",
        "tu-mobilenetv3_small_100",
        "inceptionv4",
    ]
    for head in heads:
        for encoder in encoders:

            def build(
                head: str = head, encoder: str = encoder
            ) -> tuple[nn.Module, tuple[int, ...]]:
                make = getattr(smp, head)
                return make(encoder, encoder_weights=None, classes=3), (3, 96, 128)

            yield f"smp/{head}/{encoder}", build
    for head, encoder in (("Segformer", "mit_b0"), ("Segformer", "resnet18")):

        def special(head: str = head, encoder: str = encoder) -> tuple[nn.Module, tuple[int, ...]]:
            return getattr(smp, head)(encoder, encoder_weights=None, classes=3), (3, 96, 128)

        yield f"smp/{head}/{encoder}", special

    def dpt() -> tuple[nn.Module, tuple[int, ...]]:
        return smp.DPT("tu-vit_tiny_patch16_224", encoder_weights=None, classes=3), (3, 224, 224)

    yield "smp/DPT/vit_tiny", dpt

    def scse() -> tuple[nn.Module, tuple[int, ...]]:
        net = smp.Unet("resnet18", encoder_weights=None, decoder_attention_type="scse")
        return net, (3, 96, 128)

    yield "smp/Unet/scse", scse
    for norm in ("instancenorm", "layernorm", "identity"):

        def normed(norm: str = norm) -> tuple[nn.Module, tuple[int, ...]]:
            net = smp.Unet("resnet18", encoder_weights=None, decoder_use_norm=norm)
            return net, (3, 96, 128)

        yield f"smp/Unet/{norm}", normed


def _monai() -> Iterator[tuple[str, Build]]:
    nets: Any = importlib.import_module("monai.networks.nets")

    made: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
        "UNet": (lambda: nets.UNet(2, 1, 2, (8, 16, 32), (2, 2), num_res_units=1), (1, 64, 48)),
        "UNet3": (lambda: nets.UNet(3, 1, 2, (4, 8, 16), (2, 2)), (1, 16, 24, 32)),
        "UNetBatch": (lambda: nets.UNet(2, 1, 2, (8, 16), (2,), norm="batch"), (1, 64, 48)),
        "UNetGroup": (
            lambda: nets.UNet(2, 1, 2, (8, 16), (2,), norm=("group", {"num_groups": 4})),
            (1, 64, 48),
        ),
        "UNetLayer": (
            lambda: nets.UNet(2, 1, 2, (8, 16), (2,), norm="instance_nvfuser"),
            (1, 64, 48),
        ),
        "BasicUNet": (lambda: nets.BasicUNet(2, 1, 2, (8, 8, 16, 16, 32, 8)), (1, 64, 48)),
        "BasicUNet3": (lambda: nets.BasicUNet(3, 1, 2, (4, 4, 8, 8, 8, 4)), (1, 16, 32, 32)),
        "BasicUNetPlusPlus": (
            lambda: nets.BasicUNetPlusPlus(2, 1, 2, features=(8, 8, 16, 16, 32, 8)),
            (1, 64, 48),
        ),
        "DynUNet": (
            lambda: nets.DynUNet(2, 1, 2, [3, 3, 3], [1, 2, 2], [2, 2], filters=[8, 16, 32]),
            (1, 64, 48),
        ),
        "DynUNetRes3": (
            lambda: nets.DynUNet(
                3, 1, 2, [3, 3, 3], [1, 2, 2], [2, 2], filters=[4, 8, 8], res_block=True
            ),
            (1, 16, 16, 32),
        ),
        "SegResNet": (lambda: nets.SegResNet(2, 8, 1, 2), (1, 64, 48)),
        "SegResNet3": (lambda: nets.SegResNet(3, 8, 1, 2), (1, 16, 24, 32)),
        "SegResNetDS": (lambda: nets.SegResNetDS(2, 8, 1, 2), (1, 64, 64)),
        "SegResNetVAE": (
            lambda: nets.SegResNetVAE((64, 64), spatial_dims=2, init_filters=8),
            (1, 64, 64),
        ),
        "VNet": (lambda: nets.VNet(2, 1, 2), (1, 64, 48)),
        "AttentionUnet": (lambda: nets.AttentionUnet(2, 1, 2, (8, 16, 32), (2, 2)), (1, 64, 48)),
        "UNETR": (
            lambda: nets.UNETR(
                1, 2, (64, 64), spatial_dims=2, hidden_size=48, mlp_dim=64, num_heads=4
            ),
            (1, 64, 64),
        ),
        "SwinUNETR": (
            lambda: nets.SwinUNETR(1, 2, spatial_dims=2, feature_size=12, window_size=7),
            (1, 64, 64),
        ),
        "SwinUNETR3": (lambda: nets.SwinUNETR(1, 2, feature_size=12), (1, 32, 32, 32)),
        "DenseNet": (lambda: nets.DenseNet121(2, 1, 2), (1, 64, 64)),
        "EfficientNet": (
            lambda: nets.EfficientNetBN(
                "efficientnet-b0", pretrained=False, spatial_dims=2, in_channels=3
            ),
            (3, 64, 64),
        ),
        "SENet": (
            lambda: nets.SEResNet50(spatial_dims=2, in_channels=3, num_classes=2),
            (3, 64, 64),
        ),
        "HighResNet": (lambda: nets.HighResNet(2, 1, 2), (1, 64, 48)),
        "AHNet": (
            lambda: nets.AHNet(2, spatial_dims=2, in_channels=1, out_channels=2),
            (1, 64, 64),
        ),
        "ViT": (
            lambda: nets.ViT(
                1, (64, 64), (16, 16), spatial_dims=2, hidden_size=48, mlp_dim=64, num_heads=4
            ),
            (1, 64, 64),
        ),
        "ViTAutoEnc": (
            lambda: nets.ViTAutoEnc(
                1, (64, 64), (16, 16), spatial_dims=2, hidden_size=48, mlp_dim=64, num_heads=4
            ),
            (1, 64, 64),
        ),
        "AutoEncoder": (lambda: nets.AutoEncoder(2, 1, 1, (4, 8), (2, 2)), (1, 64, 48)),
        "VarAutoEncoder": (
            lambda: nets.VarAutoEncoder(2, (1, 64, 64), 1, 4, (4, 8), (2, 2)),
            (1, 64, 64),
        ),
        "Regressor": (lambda: nets.Regressor((1, 64, 64), 2, (4, 8), (2, 2)), (1, 64, 64)),
        "Classifier": (lambda: nets.Classifier((1, 64, 64), 2, (4, 8), (2, 2)), (1, 64, 64)),
        "Discriminator": (lambda: nets.Discriminator((1, 64, 64), (4, 8), (2, 2)), (1, 64, 64)),
        "Generator": (lambda: nets.FlexibleUNet(3, 2, "efficientnet-b0"), (3, 64, 64)),
        "LocalNet": (lambda: nets.LocalNet(2, 2, 8, 2, extract_levels=(0, 1, 2)), (2, 64, 64)),
        "RegUNet": (lambda: nets.RegUNet(2, 2, 8, 2), (2, 64, 64)),
        "GlobalNet": (lambda: nets.GlobalNet((64, 64), 2, 2, 8, 2), (2, 64, 64)),
        "AutoencoderKL": (
            lambda: nets.AutoencoderKL(
                2, 1, 1, (1, 1), (8, 16), (False, True), latent_channels=2, norm_num_groups=4
            ),
            (1, 32, 32),
        ),
        "VQVAE": (lambda: nets.VQVAE(2, 1, 1, (8, 8), 1, (8, 8)), (1, 32, 32)),
        "TopologySearch": (
            lambda: nets.DiNTS(
                nets.TopologyInstance(1, 2, spatial_dims=2, arch_code=None), 1, 2, spatial_dims=2
            ),
            (1, 64, 64),
        ),
        "PatchDiscriminator": (
            lambda: nets.PatchDiscriminator(2, 8, 1, num_layers_d=2, norm="INSTANCE"),
            (1, 64, 64),
        ),
        "QuickNAT": (lambda: nets.Quicknat(num_channels=1, num_filters=8), (1, 64, 64)),
        "TorchVisionFC": (
            lambda: nets.TorchVisionFCModel("resnet18", 2, pretrained=False),
            (3, 64, 64),
        ),
        "MILModel": (lambda: nets.ResNetFeatures("resnet18", False, 2, 1), (1, 64, 64)),
        "ResNet3": (lambda: nets.resnet18(spatial_dims=3, n_input_channels=1), (1, 24, 32, 32)),
        "DAF3D": (lambda: nets.DAF3D(1, 2), (1, 32, 32, 32)),
        "MedNeXt": (lambda: nets.MedNeXtS(2, 4, 1, 2), (1, 64, 64)),
        "CellSamWrapper": (lambda: nets.HoVerNet(out_classes=3), (3, 256, 256)),
    }
    for name, (make, size) in made.items():

        def build(
            make: Callable[[], nn.Module] = make, size: tuple[int, ...] = size
        ) -> tuple[nn.Module, tuple[int, ...]]:
            return make(), size

        yield f"monai/{name}", build


def _torchvision() -> Iterator[tuple[str, Build]]:
    models: Any = importlib.import_module("torchvision.models")

    names = [
        "alexnet",
        "vgg11_bn",
        "resnet18",
        "squeezenet1_1",
        "densenet121",
        "inception_v3",
        "googlenet",
        "shufflenet_v2_x0_5",
        "mobilenet_v2",
        "mobilenet_v3_small",
        "mnasnet0_5",
        "efficientnet_b0",
        "regnet_y_400mf",
        "vit_b_16",
        "convnext_tiny",
        "swin_t",
        "swin_v2_t",
        "maxvit_t",
    ]
    for name in names:

        def build(name: str = name) -> tuple[nn.Module, tuple[int, ...]]:
            more = {"init_weights": False} if name in ("inception_v3", "googlenet") else {}
            return getattr(models, name)(weights=None, **more), (3, 224, 224)

        yield f"torchvision/{name}", build
    for name in ("fcn_resnet50", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large"):

        def segments(name: str = name) -> tuple[nn.Module, tuple[int, ...]]:
            make = getattr(models.segmentation, name)
            return make(weights=None, weights_backbone=None), (3, 96, 128)

        yield f"torchvision/{name}", segments


def _spandrel() -> Iterator[tuple[str, Build]]:
    architectures: Any = importlib.import_module("spandrel.architectures")

    for one in pkgutil.iter_modules(architectures.__path__):
        if one.name.startswith("__"):
            continue

        def build(name: str = one.name) -> tuple[nn.Module, tuple[int, ...]]:
            module = importlib.import_module(f"spandrel.architectures.{name}")
            kinds = [
                kind
                for kind in vars(module).values()
                if isinstance(kind, type) and issubclass(kind, nn.Module)
            ]
            make: Any = getattr(module, name, None) or kinds[-1]
            return make(), (3, 64, 64)

        yield f"spandrel/{one.name}", build


SOURCES = (_smp, _timm_features, _timm, _monai, _torchvision, _spandrel)


def networks() -> dict[str, Build]:
    """Every network by its name, of the packages that are there."""
    found: dict[str, Build] = {}
    for source in SOURCES:
        try:
            found.update(source())
        except ImportError as error:
            print(f"left out: {error}", file=sys.stderr)
    return found

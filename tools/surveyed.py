"""Networks of other people's packages by name: how to build each, and the size it takes."""

from __future__ import annotations

import contextlib
import copy
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from tools.surveyed_signals import SOURCES as SIGNALS
from tools.surveyed_signals import Build, Made, named, waves
from torch import nn


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
    return _architectures("spandrel.architectures", "spandrel")


def _architectures(package: str, short: str) -> Iterator[tuple[str, Build]]:
    architectures: Any = importlib.import_module(package)

    for one in pkgutil.iter_modules(architectures.__path__):
        if one.name.startswith("__"):
            continue

        def build(name: str = one.name) -> tuple[nn.Module, tuple[int, ...]]:
            module = importlib.import_module(f"{package}.{name}")
            kinds = [
                kind
                for kind in vars(module).values()
                if isinstance(kind, type) and issubclass(kind, nn.Module)
            ]
            make: Any = getattr(module, name, None) or kinds[-1]
            return make(), (3, 64, 64)

        yield f"{short}/{one.name}", build


class _First(nn.Module):
    """A network whose other arguments are fixed."""

    def __init__(self, net: nn.Module, *others: Any, **more: Any) -> None:
        super().__init__()
        self.net, self.others, self.more = net, others, more

    def forward(self, image: Any) -> Any:
        return self.net(image, *self.others, **self.more)


def _pytorchcv() -> Iterator[tuple[str, Build]]:
    provider: Any = importlib.import_module("pytorchcv.model_provider")

    seen: set[str] = set()
    for name, make in provider._models.items():
        if make.__module__ in seen:
            continue
        seen.add(make.__module__)

        def build(make: Callable[[], Any] = make) -> tuple[nn.Module, tuple[int, ...]]:
            net = make()
            height, width = getattr(net, "in_size", (224, 224))
            scale = 224 / max(height, width)
            if scale < 0.5:  # street scenes of 1024x2048
                height, width = 192, 256
            return net, (getattr(net, "in_channels", 3), height, width)

        yield f"pytorchcv/{name}", build


def _ultralytics() -> Iterator[tuple[str, Build]]:
    tasks: Any = importlib.import_module("ultralytics.nn.tasks")

    kinds = {
        "yolov3-tiny": "DetectionModel",
        "yolov5n": "DetectionModel",
        "yolov6n": "DetectionModel",
        "yolov8n": "DetectionModel",
        "yolov8n-seg": "SegmentationModel",
        "yolov8n-pose": "PoseModel",
        "yolov8n-obb": "OBBModel",
        "yolov8n-cls": "ClassificationModel",
        "yolov8n-p6": "DetectionModel",
        "yolov8n-ghost": "DetectionModel",
        "yolov9t": "DetectionModel",
        "yolov10n": "DetectionModel",
        "yolo11n": "DetectionModel",
        "yolo11n-seg": "SegmentationModel",
        "yolo12n": "DetectionModel",
        "yolo26n": "DetectionModel",
    }
    for name, kind in kinds.items():

        def build(name: str = name, kind: str = kind) -> tuple[nn.Module, tuple[int, ...]]:
            return getattr(tasks, kind)(f"{name}.yaml", verbose=False), (3, 64, 96)

        yield f"ultralytics/{name}", build


def _torchseg() -> Iterator[tuple[str, Build]]:
    torchseg: Any = importlib.import_module("torchseg")

    for head in ("Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "PAN", "DeepLabV3"):
        for encoder in ("resnet18", "convnext_atto"):

            def build(
                head: str = head, encoder: str = encoder
            ) -> tuple[nn.Module, tuple[int, ...]]:
                make = getattr(torchseg, head)
                return make(encoder, encoder_weights=None, classes=3), (3, 96, 128)

            yield f"torchseg/{head}/{encoder}", build


def _spandrel_extra() -> Iterator[tuple[str, Build]]:
    importlib.import_module("spandrel_extra_arches")
    return _architectures("spandrel_extra_arches.architectures", "spandrel_extra")


def _resselt() -> Iterator[tuple[str, Build]]:
    archs: Any = importlib.import_module("resselt.archs")
    for one in pkgutil.iter_modules(archs.__path__):

        def build(name: str = one.name) -> tuple[nn.Module, tuple[int, ...]]:
            module = importlib.import_module(f"resselt.archs.{name}.arch")
            kinds = [
                kind
                for kind in vars(module).values()
                if isinstance(kind, type)
                and issubclass(kind, nn.Module)
                and kind.__module__ == module.__name__
            ]
            same = [kind for kind in kinds if kind.__name__.lower() == name.lower()]
            return (same or kinds)[-1](), (3, 64, 64)

        yield f"resselt/{one.name}", build


def _torchsr() -> Iterator[tuple[str, Build]]:
    models: Any = importlib.import_module("torchsr.models")
    for name in ("edsr_baseline", "vdsr", "rdn_a", "rcan_g10r20f64", "ninasr_b0", "carn", "carn_m"):

        def build(name: str = name) -> tuple[nn.Module, tuple[int, ...]]:
            return getattr(models, name)(scale=2, pretrained=False), (3, 40, 56)

        yield f"torchsr/{name}", build


def _super_image() -> Iterator[tuple[str, Build]]:
    package: Any = importlib.import_module("super_image")
    for name in (
        "Edsr",
        "Msrn",
        "Mdsr",
        "A2n",
        "Pan",
        "Carn",
        "Rcan",
        "Han",
        "Awsrn",
        "Drln",
        "Ddbpn",
    ):

        def build(name: str = name) -> tuple[nn.Module, tuple[int, ...]]:
            config = getattr(package, f"{name}Config")(scale=2)
            return getattr(package, f"{name}Model")(config), (3, 32, 40)

        yield f"super_image/{name}", build


def _deepinv() -> Iterator[tuple[str, Build]]:
    models: Any = importlib.import_module("deepinv.models")
    sharp: Callable[[nn.Module], nn.Module] = lambda net: _First(net, 0.05)  # noqa: E731
    none: dict[str, Any] = {"pretrained": None}
    yield from named(
        "deepinv",
        {
            "DnCNN": (lambda: models.DnCNN(depth=7, **none), (3, 64, 48)),
            "DnCNN3": (lambda: models.DnCNN(1, 1, depth=5, nf=8, dim=3, **none), (1, 12, 16, 20)),
            "DRUNet": (lambda: sharp(models.DRUNet(nc=(8, 16, 16, 32), nb=2, **none)), (3, 64, 48)),
            "FFDNet": (lambda: sharp(models.FFDNet(img_channels=1, **none)), (1, 64, 48)),
            "UNet": (lambda: models.UNet(3, 3, scales=3), (3, 64, 48)),
            "UNetCircular": (
                lambda: models.UNet(3, 3, scales=3, circular_padding=True),
                (3, 64, 48),
            ),
            "UNetBiasFree": (
                lambda: models.UNet(3, 3, scales=3, bias=False, batch_norm="biasfree"),
                (3, 64, 48),
            ),
            "SwinIR": (
                lambda: sharp(
                    models.SwinIR(
                        img_size=64, embed_dim=24, depths=(2, 2), num_heads=(2, 2), **none
                    )
                ),
                (3, 64, 64),
            ),
            "SCUNet": (lambda: sharp(models.SCUNet(config=(2,) * 7, dim=16, **none)), (3, 64, 64)),
            "Restormer": (
                lambda: sharp(models.Restormer(dim=12, num_blocks=(1, 1, 1, 1), **none)),
                (3, 64, 48),
            ),
            "PromptIR": (
                lambda: models.PromptIR(dim=16, num_blocks=(1, 1, 1, 1), **none),
                (3, 64, 64),
            ),
            "MPRNet": (
                lambda: models.MPRNet(n_feat=16, scale_unetfeats=8, scale_orsnetfeats=8, **none),
                (3, 64, 64),
            ),
            "SRResNet": (lambda: models.SRResNet(num_blocks=3, upscale=2), (3, 40, 56)),
            "ICNN": (lambda: models.ICNN(num_filters=8, num_layers=4), (3, 40, 56)),
            "PatchGAN": (lambda: models.PatchGANDiscriminator(ndf=8), (3, 64, 80)),
            "DCGAN": (lambda: models.DCGANDiscriminator(ndf=8), (3, 64, 64)),
            "ConvLista": (
                lambda: models.ConvLista(in_channels=3, out_channels=3, num_filters=16, num_iter=3),
                (3, 40, 56),
            ),
            "Median": (lambda: models.MedianFilter(5), (3, 40, 56)),
            "TV": (lambda: sharp(models.TVDenoiser(n_it_max=10)), (3, 40, 56)),
            "Wavelet": (lambda: sharp(models.WaveletDenoiser(2, "db4")), (3, 64, 48)),
            "Bilateral": (lambda: models.BilateralFilter(), (3, 32, 40)),
            "KernelIdentification": (
                lambda: models.KernelIdentificationNetwork(filters=9, blur_kernel_size=9, **none),
                (3, 64, 64),
            ),
            "RAM": (lambda: models.RAM(pretrained=False), (3, 64, 64)),
        },
    )


def _diffusers() -> Iterator[tuple[str, Build]]:
    d: Any = importlib.import_module("diffusers")
    small: dict[str, Any] = {"block_out_channels": (16, 32), "norm_num_groups": 8}
    down, up = ("DownBlock2D", "AttnDownBlock2D"), ("AttnUpBlock2D", "UpBlock2D")
    enc, dec = ("DownEncoderBlock2D",) * 2, ("UpDecoderBlock2D",) * 2
    yield from named(
        "diffusers",
        {
            "AutoencoderKL": (
                lambda: d.AutoencoderKL(down_block_types=enc, up_block_types=dec, **small),
                (3, 32, 48),
            ),
            "AutoencoderTiny": (
                lambda: d.AutoencoderTiny(
                    encoder_block_out_channels=(8, 8),
                    decoder_block_out_channels=(8, 8),
                    num_encoder_blocks=(1, 1),
                    num_decoder_blocks=(1, 1),
                ),
                (3, 32, 48),
            ),
            "AsymmetricAutoencoderKL": (
                lambda: d.AsymmetricAutoencoderKL(
                    down_block_types=enc,
                    up_block_types=dec,
                    down_block_out_channels=(16, 32),
                    up_block_out_channels=(16, 32),
                    norm_num_groups=8,
                ),
                (3, 32, 48),
            ),
            "VQModel": (
                lambda: d.VQModel(down_block_types=enc, up_block_types=dec, **small),
                (3, 32, 48),
            ),
            "UNet2D": (
                lambda: _First(
                    d.UNet2DModel(
                        32, down_block_types=down, up_block_types=up, attention_head_dim=8, **small
                    ),
                    7,
                ),
                (3, 32, 48),
            ),
            "UNet2DNoAttention": (
                lambda: _First(
                    d.UNet2DModel(
                        32,
                        down_block_types=("DownBlock2D",) * 2,
                        up_block_types=("UpBlock2D",) * 2,
                        add_attention=False,
                        **small,
                    ),
                    7,
                ),
                (3, 32, 48),
            ),
            "AutoencoderDC": (
                lambda: d.AutoencoderDC(
                    encoder_block_out_channels=(16, 32),
                    decoder_block_out_channels=(16, 32),
                    encoder_layers_per_block=(1, 1),
                    decoder_layers_per_block=(1, 1),
                    latent_channels=4,
                    encoder_block_types=("ResBlock", "EfficientViTBlock"),
                    decoder_block_types=("ResBlock", "EfficientViTBlock"),
                    encoder_qkv_multiscales=((), (5,)),
                    decoder_qkv_multiscales=((), (5,)),
                    attention_head_dim=8,
                ),
                (3, 32, 48),
            ),
            "UNet1D": (
                lambda: _First(
                    d.UNet1DModel(block_out_channels=(16, 32, 32), in_channels=2, out_channels=2), 7
                ),
                (2, 256),
            ),
        },
    )


def _transformers() -> Iterator[tuple[str, Build]]:
    t: Any = importlib.import_module("transformers")

    def tiny(name: str, head: str, **more: Any) -> Callable[[], nn.Module]:
        def make() -> nn.Module:
            return getattr(t, f"{name}{head}")(getattr(t, f"{name}Config")(**more))  # type: ignore[no-any-return]

        return make

    widths: dict[str, Any] = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}
    size = (3, 64, 96)
    made: Made = {
        "ConvNext": (tiny("ConvNext", "Model", **widths), size),
        "ConvNextV2": (tiny("ConvNextV2", "ForImageClassification", **widths), size),
        "ResNet": (tiny("ResNet", "Model", embedding_size=8, **widths), size),
        "RegNet": (tiny("RegNet", "Model", embedding_size=8, groups_width=8, **widths), size),
        "MobileNetV1": (tiny("MobileNetV1", "Model", depth_multiplier=0.25), size),
        "MobileNetV2": (
            tiny("MobileNetV2", "ForSemanticSegmentation", depth_multiplier=0.35),
            size,
        ),
        "MobileViT": (
            tiny(
                "MobileViT",
                "ForSemanticSegmentation",
                hidden_sizes=[16, 24, 32],
                neck_hidden_sizes=[8, 8, 16, 16, 24, 24, 32],
                num_attention_heads=2,
            ),
            size,
        ),
        "MobileViTV2": (
            tiny("MobileViTV2", "ForSemanticSegmentation", width_multiplier=0.25),
            size,
        ),
        "Segformer": (
            tiny(
                "Segformer",
                "ForSemanticSegmentation",
                hidden_sizes=[8, 16, 24, 32],
                depths=[1, 1, 1, 1],
                decoder_hidden_size=16,
            ),
            size,
        ),
        "GLPN": (
            tiny(
                "GLPN",
                "ForDepthEstimation",
                hidden_sizes=[8, 16, 24, 32],
                depths=[1, 1, 1, 1],
                decoder_hidden_size=16,
            ),
            size,
        ),
        "Swin": (
            tiny(
                "Swin",
                "Model",
                image_size=64,
                embed_dim=12,
                depths=[2, 2],
                num_heads=[2, 2],
                window_size=4,
            ),
            (3, 64, 64),
        ),
        "Swinv2": (
            tiny(
                "Swinv2",
                "Model",
                image_size=64,
                embed_dim=12,
                depths=[2, 2],
                num_heads=[2, 2],
                window_size=4,
            ),
            (3, 64, 64),
        ),
        "Swin2SR": (
            tiny(
                "Swin2SR",
                "ForImageSuperResolution",
                image_size=32,
                embed_dim=12,
                depths=[2, 2],
                num_heads=[2, 2],
                window_size=4,
            ),
            (3, 32, 40),
        ),
        "Bit": (tiny("Bit", "Model", embedding_size=8, num_groups=4, **widths), size),
        "PoolFormer": (tiny("PoolFormer", "Model", **widths), size),
        "Pvt": (
            tiny(
                "Pvt",
                "Model",
                image_size=64,
                hidden_sizes=[8, 16, 24, 32],
                depths=[1, 1, 1, 1],
                num_attention_heads=[1, 2, 2, 4],
            ),
            (3, 64, 64),
        ),
        "PvtV2": (
            tiny(
                "PvtV2",
                "Model",
                image_size=64,
                hidden_sizes=[8, 16, 24, 32],
                depths=[1, 1, 1, 1],
                num_attention_heads=[1, 2, 2, 4],
            ),
            (3, 64, 96),
        ),
        "Cvt": (
            tiny("Cvt", "Model", embed_dim=[16, 32, 48], depth=[1, 1, 1], num_heads=[1, 2, 2]),
            size,
        ),
        "FocalNet": (
            tiny(
                "FocalNet",
                "Model",
                image_size=64,
                embed_dim=12,
                depths=[1, 1],
                focal_levels=[2, 2],
                focal_windows=[3, 3],
                hidden_sizes=[12, 24],
            ),
            (3, 64, 64),
        ),
        "EfficientNet": (
            tiny("EfficientNet", "Model", width_coefficient=0.25, depth_coefficient=0.25),
            size,
        ),
        "LeViT": (
            tiny(
                "Levit",
                "Model",
                image_size=64,
                hidden_sizes=[16, 24, 32],
                num_attention_heads=[2, 2, 2],
                depths=[1, 1, 1],
                key_dim=[8, 8, 8],
            ),
            (3, 64, 64),
        ),
        "ViT": (
            tiny(
                "ViT",
                "Model",
                image_size=64,
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=64,
            ),
            (3, 64, 64),
        ),
        "ViTInterpolated": (
            lambda: _First(
                tiny(
                    "ViT",
                    "Model",
                    image_size=64,
                    hidden_size=32,
                    num_hidden_layers=2,
                    num_attention_heads=2,
                    intermediate_size=64,
                )(),
                interpolate_pos_encoding=True,
            ),
            (3, 80, 96),
        ),
        "Dinov2": (
            tiny(
                "Dinov2",
                "Model",
                image_size=56,
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
            ),
            (3, 56, 84),
        ),
        "DepthAnything": (
            tiny(
                "DepthAnything",
                "ForDepthEstimation",
                reassemble_hidden_size=32,
                neck_hidden_sizes=[8, 8, 8, 8],
                fusion_hidden_size=8,
                head_hidden_size=8,
                backbone_config=None,
            ),
            (3, 56, 84),
        ),
        "TextNet": (tiny("TextNet", "Model"), size),
        "HGNetV2": (tiny("HGNetV2", "ForImageClassification"), (3, 64, 64)),
        "SuperPoint": (tiny("SuperPoint", "ForKeypointDetection"), (3, 64, 64)),
        "UperNet": (
            lambda: t.UperNetForSemanticSegmentation(
                t.UperNetConfig(
                    backbone_config=t.ConvNextConfig(
                        **widths, out_features=["stage1", "stage2", "stage3", "stage4"]
                    ),
                    hidden_size=16,
                    auxiliary_channels=8,
                    auxiliary_in_channels=24,
                )
            ),
            size,
        ),
        "VitMatte": (
            lambda: t.VitMatteForImageMatting(
                t.VitMatteConfig(
                    backbone_config=t.VitDetConfig(
                        image_size=64,
                        num_channels=4,
                        hidden_size=32,
                        num_hidden_layers=2,
                        num_attention_heads=2,
                        out_features=["stage2"],
                    ),
                    hidden_size=32,
                    convstream_hidden_sizes=[8, 8, 8],
                    fusion_hidden_sizes=[16, 8, 8, 8],
                )
            ),
            (4, 64, 64),
        ),
        "Encodec": (
            tiny(
                "Encodec",
                "Model",
                num_filters=4,
                hidden_size=16,
                codebook_size=16,
                codebook_dim=16,
                upsampling_ratios=[4, 2],
            ),
            (1, 640),
        ),
        "Dac": (
            tiny(
                "Dac",
                "Model",
                encoder_hidden_size=8,
                decoder_hidden_size=32,
                downsampling_ratios=[2, 4],
                upsampling_ratios=[4, 2],
            ),
            (1, 640),
        ),
        "Wav2Vec2Features": (
            lambda: waves(
                t.Wav2Vec2Model(
                    t.Wav2Vec2Config(
                        hidden_size=32,
                        num_hidden_layers=1,
                        num_attention_heads=2,
                        intermediate_size=32,
                    )
                ).feature_extractor
            ),
            (1, 4000),
        ),
        "UnivNet": (
            lambda: t.SpeechT5HifiGan(
                t.SpeechT5HifiGanConfig(model_in_dim=16, upsample_initial_channel=32)
            ),
            (40, 16),
        ),
    }
    yield from named("transformers", made)


def _braindecode() -> Iterator[tuple[str, Build]]:
    models: Any = importlib.import_module("braindecode.models")
    names = [
        "ATCNet",
        "BDTCN",
        "Deep4Net",
        "EEGConformer",
        "EEGInceptionERP",
        "EEGInceptionMI",
        "EEGITNet",
        "EEGNet",
        "EEGNeX",
        "EEGSimpleConv",
        "EEGTCNet",
        "FBCNet",
        "FBLightConvNet",
        "FBMSNet",
        "IFNet",
        "SCCNet",
        "ShallowFBCSPNet",
        "SincShallowNet",
        "SleepStagerBlanco2020",
        "SleepStagerChambon2018",
        "SPARCNet",
        "SyncNet",
        "TIDNet",
        "TSception",
        "USleep",
        "AttnSleep",
        "DeepSleepNet",
        "CTNet",
        "MSVTNet",
        "SSTDPN",
        "TCN",
        "EEGMiner",
    ]
    for name in names:

        def build(name: str = name) -> tuple[nn.Module, tuple[int, ...]]:
            make = getattr(models, name)
            return make(n_chans=8, n_outputs=3, n_times=1000, sfreq=250), (8, 1000)

        yield f"braindecode/{name}", build


def _seisbench() -> Iterator[tuple[str, Build]]:
    m: Any = importlib.import_module("seisbench.models")
    yield from named(
        "seisbench",
        {
            "PhaseNet": (lambda: m.PhaseNet(), (3, 3001)),
            "VariableLengthPhaseNet": (lambda: m.VariableLengthPhaseNet(in_samples=600), (3, 600)),
            "EQTransformer": (lambda: m.EQTransformer(in_samples=6000), (3, 6000)),
            "GPD": (lambda: m.GPD(), (3, 400)),
            "AEPicker": (lambda: m.BasicPhaseAE(), (3, 600)),
            "DeepDenoiser": (lambda: m.DeepDenoiser(), (2, 31, 201)),
            "SeisDAE": (lambda: m.SeisDAE(), (2, 31, 201)),
            "CRED": (lambda: m.CRED(), (1, 40, 64)),
            "DPPDetector": (lambda: m.DPPDetector(), (3, 500)),
            "PhaseNetLight": (lambda: m.PhaseNetLight(), (3, 3001)),
            "Skynet": (lambda: m.Skynet(), (3, 30000)),
        },
    )


def _audio() -> Iterator[tuple[str, Build]]:
    demucs: Any = importlib.import_module("demucs.demucs")
    hdemucs: Any = importlib.import_module("demucs.hdemucs")
    few: dict[str, Any] = {"sources": ["a", "b"], "channels": 8}
    yield from named(
        "demucs",
        {
            "Demucs": (
                lambda: demucs.Demucs(depth=3, lstm_layers=0, dconv_attn=9, dconv_lstm=9, **few),
                (2, 3000),
            ),
            "DemucsLSTM": (
                lambda: demucs.Demucs(depth=3, lstm_layers=1, dconv_attn=9, dconv_lstm=9, **few),
                (2, 3000),
            ),
            "HDemucs": (
                lambda: hdemucs.HDemucs(depth=4, nfft=512, dconv_attn=9, dconv_lstm=9, **few),
                (2, 8192),
            ),
        },
    )


def _unets() -> Iterator[tuple[str, Build]]:
    def of(module: str, kind: str, *args: Any, **more: Any) -> Callable[[], nn.Module]:
        def make() -> nn.Module:
            return getattr(importlib.import_module(module), kind)(*args, **more)  # type: ignore[no-any-return]

        return make

    few: dict[str, Any] = {"num_encoding_blocks": 3, "out_channels_first_layer": 8}
    unet3d = "pytorch3dunet.unet3d.model"
    made: Made = {
        "unet/UNet1D": (of("unet", "UNet1D", normalization="batch", padding=True, **few), (1, 101)),
        "unet/UNet2D": (of("unet", "UNet2D", **few), (1, 92, 108)),
        "unet/UNet2DLinear": (
            of(
                "unet",
                "UNet2D",
                padding=True,
                upsampling_type="linear",
                residual=True,
                preactivation=True,
                normalization="instance",
                **few,
            ),
            (1, 64, 48),
        ),
        "unet/UNet2DReflect": (
            of(
                "unet",
                "UNet2D",
                padding=True,
                padding_mode="reflect",
                pooling_type="avg",
                activation="PReLU",
                **few,
            ),
            (1, 64, 48),
        ),
        "unet/UNet3D": (
            of(
                "unet",
                "UNet3D",
                padding=True,
                normalization="group",
                num_encoding_blocks=2,
                out_channels_first_layer=8,
            ),
            (1, 16, 24, 20),
        ),
        "pytorch3dunet/UNet2D": (of(unet3d, "UNet2D", 1, 2, f_maps=8, num_levels=3), (1, 50, 70)),
        "pytorch3dunet/UNet3D": (
            of(unet3d, "UNet3D", 1, 2, f_maps=8, num_levels=3),
            (1, 14, 18, 22),
        ),
        "pytorch3dunet/ResidualUNet2D": (
            of(unet3d, "ResidualUNet2D", 1, 2, f_maps=8, num_levels=3),
            (1, 50, 70),
        ),
        "pytorch3dunet/ResidualUNetSE3D": (
            of(unet3d, "ResidualUNetSE3D", 1, 2, f_maps=8, num_levels=3),
            (1, 16, 16, 24),
        ),
        "pytorch3dunet/bcr": (
            of(
                unet3d, "UNet2D", 1, 2, f_maps=8, num_levels=3, layer_order="bcr", upsample="deconv"
            ),
            (1, 50, 70),
        ),
        "iunets/iUNet": (of("iunets", "iUNet", 4, (1, 1, 1), 2), (4, 32, 48)),
        "easy_unet": (of("easy_unet", "EasyUNet", 8, (1, 2, 4)), (4, 32, 48)),
        "yaunet": (
            of(
                "yaunet",
                "UNet",
                3,
                2,
                down_widths=(8, 16),
                down_depths=(1, 1),
                mid_width=16,
                mid_depth=1,
                up_widths=(16, 8),
                up_depths=(1, 1),
            ),
            (3, 32, 48),
        ),
        "x_unet": (
            of(
                "x_unet",
                "XUnet",
                8,
                channels=3,
                dim_mults=(1, 2),
                num_blocks_per_stage=(1, 1),
                num_self_attn_per_stage=(0, 1),
                nested_unet_depths=(2, 1),
                consolidate_upsample_fmaps=True,
                weight_standardize=True,
            ),
            (3, 32, 48),
        ),
        "x_unet/Nested": (
            of("x_unet", "NestedResidualUnet", 8, depth=2, weight_standardize=True),
            (8, 32, 48),
        ),
        "facenet/PNet": (of("facenet_pytorch", "PNet", pretrained=False), (3, 48, 60)),
        "facenet/RNet": (of("facenet_pytorch", "RNet", pretrained=False), (3, 24, 24)),
        "facenet/ONet": (of("facenet_pytorch", "ONet", pretrained=False), (3, 48, 48)),
        "facenet/InceptionResnetV1": (of("facenet_pytorch", "InceptionResnetV1"), (3, 160, 160)),
        "xrayvision/DenseNet": (of("torchxrayvision.models", "DenseNet"), (1, 96, 96)),
        "xrayvision/AE": (
            lambda: importlib.import_module("torchxrayvision.autoencoders")._ResNetAE(
                importlib.import_module("torchxrayvision.autoencoders")._Bottleneck,
                importlib.import_module("torchxrayvision.autoencoders")._DeconvBottleneck,
                [1, 1, 1, 1],
                1,
            ),
            (1, 224, 224),
        ),
        "wavelets/DWT": (
            of("pytorch_wavelets", "DWTForward", J=2, wave="db3", mode="symmetric"),
            (1, 61, 75),
        ),
        "wavelets/DWTPeriodic": (
            of("pytorch_wavelets", "DWTForward", J=2, wave="haar", mode="periodization"),
            (1, 64, 80),
        ),
        "wavelets/DTCWT": (of("pytorch_wavelets", "DTCWTForward", J=2), (1, 64, 80)),
        "wavelets/Scat": (of("pytorch_wavelets", "ScatLayer"), (1, 64, 80)),
        "neuralop/FNO": (of("neuralop.models", "FNO", (8, 8), 3, 2, 8, n_layers=2), (3, 32, 40)),
        "neuralop/UNO": (
            of(
                "neuralop.models",
                "UNO",
                3,
                2,
                hidden_channels=8,
                uno_out_channels=[8, 8, 8],
                uno_n_modes=[[6, 6]] * 3,
                uno_scalings=[[1, 1]] * 3,
                n_layers=3,
            ),
            (3, 32, 40),
        ),
        "lpips/alex": (
            lambda: _First(
                importlib.import_module("lpips").pretrained_networks.alexnet(pretrained=False)
            ),
            (3, 96, 64),
        ),
        "kornia/HardNet": (of("kornia.feature", "HardNet", pretrained=False), (1, 32, 32)),
        "kornia/SOSNet": (of("kornia.feature", "SOSNet", pretrained=False), (1, 32, 32)),
        "kornia/TFeat": (of("kornia.feature", "TFeat", pretrained=False), (1, 32, 32)),
        "kornia/HyNet": (of("kornia.feature", "HyNet", pretrained=False), (1, 32, 32)),
        "kornia/SIFT": (of("kornia.feature", "SIFTDescriptor", 32), (1, 32, 32)),
        "kornia/KeyNet": (of("kornia.feature", "KeyNet", pretrained=False), (1, 64, 80)),
        "kornia/XFeat": (of("kornia.feature", "XFeatModel"), (3, 64, 96)),
        "kornia/DexiNed": (
            lambda: (
                importlib.import_module("kornia.models").edge_detection.DexiNed(pretrained=False)
                if hasattr(importlib.import_module("kornia.models"), "edge_detection")
                else importlib.import_module("kornia.filters").DexiNed(pretrained=False)
            ),
            (3, 64, 96),
        ),
        "kornia/RRDB": (
            of("kornia.models", "RRDBNet", 3, 3, num_feat=8, num_block=2, num_grow_ch=4),
            (3, 24, 32),
        ),
        "kornia/CornerHarris": (of("kornia.feature", "CornerHarris", 0.04), (1, 40, 56)),
        "kornia/Sobel": (of("kornia.filters", "Sobel"), (3, 40, 56)),
        "kornia/Canny": (of("kornia.filters", "Canny"), (3, 40, 56)),
        "kornia/GaussianBlur": (
            of("kornia.filters", "GaussianBlur2d", (5, 3), (1.5, 0.7)),
            (3, 40, 56),
        ),
        "kornia/MedianBlur": (of("kornia.filters", "MedianBlur", (5, 3)), (3, 40, 56)),
        "kornia/BoxBlur": (of("kornia.filters", "BoxBlur", (4, 3)), (3, 40, 56)),
        "kornia/Laplacian": (of("kornia.filters", "Laplacian", 5), (3, 40, 56)),
        "kornia/SpatialGradient": (
            of("kornia.filters", "SpatialGradient", "sobel", 2),
            (3, 40, 56),
        ),
        "kornia/MotionBlur": (of("kornia.filters", "MotionBlur", 5, 30.0, 0.5), (3, 40, 56)),
        "kornia/Unsharp": (of("kornia.filters", "UnsharpMask", (5, 5), (1.5, 1.5)), (3, 40, 56)),
        "kornia/BlurPool": (of("kornia.filters", "BlurPool2D", 3, 2), (3, 41, 57)),
        "kornia/PyrDown": (
            lambda: importlib.import_module("kornia.geometry.transform").PyrDown(),
            (3, 41, 57),
        ),
        "kornia/ScalePyramid": (
            lambda: importlib.import_module("kornia.geometry.transform").ScalePyramid(3, 1.6, 16),
            (1, 48, 64),
        ),
        "kornia/Dilation": (
            lambda: importlib.import_module("kornia.contrib").Lambda(
                lambda x: importlib.import_module("kornia.morphology").dilation(
                    x, importlib.import_module("torch").ones(3, 5, dtype=x.dtype)
                )
            ),
            (3, 40, 56),
        ),
        "kornia/RgbToLab": (
            lambda: importlib.import_module("kornia.color").RgbToLab(),
            (3, 40, 56),
        ),
        "kornia/SSIM": (
            lambda: importlib.import_module("kornia.contrib").Lambda(
                lambda x: importlib.import_module("kornia.metrics").ssim(x, x.flip(1), 7)
            ),
            (3, 40, 56),
        ),
        "sam/ImageEncoder": (
            lambda: importlib.import_module("segment_anything.modeling").ImageEncoderViT(
                64,
                embed_dim=32,
                depth=2,
                num_heads=2,
                out_chans=16,
                use_rel_pos=True,
                window_size=3,
                global_attn_indexes=(1,),
                use_abs_pos=True,
            ),
            (3, 64, 64),
        ),
        "denoising_diffusion/Unet": (
            lambda: _First(
                importlib.import_module("denoising_diffusion_pytorch").Unet(
                    16, dim_mults=(1, 2), flash_attn=False
                ),
                importlib.import_module("torch").tensor([3]),
            ),
            (3, 32, 48),
        ),
        "vit_pytorch/CvT": (
            lambda: importlib.import_module("vit_pytorch.cvt").CvT(
                num_classes=5,
                s1_emb_dim=8,
                s2_emb_dim=16,
                s3_emb_dim=16,
                s2_heads=2,
                s3_heads=2,
                s3_depth=1,
            ),
            (3, 64, 64),
        ),
        "vit_pytorch/TwinsSVT": (
            lambda: importlib.import_module("vit_pytorch.twins_svt").TwinsSVT(
                num_classes=5,
                s1_emb_dim=8,
                s2_emb_dim=8,
                s3_emb_dim=8,
                s4_emb_dim=8,
                s1_patch_size=4,
                s2_patch_size=2,
                s3_patch_size=2,
                s4_patch_size=1,
                s1_local_patch_size=4,
                s2_local_patch_size=4,
                s3_local_patch_size=4,
                s4_local_patch_size=4,
                s3_depth=1,
            ),
            (3, 64, 64),
        ),
        "vit_pytorch/CrossFormer": (
            lambda: importlib.import_module("vit_pytorch.crossformer").CrossFormer(
                num_classes=5,
                dim=(8, 8, 8, 16),
                depth=(1, 1, 1, 1),
                local_window_size=(4, 4, 2, 1),
                global_window_size=(4, 2, 2, 1),
            ),
            (3, 64, 64),
        ),
        "vit_pytorch/MobileViT": (
            lambda: importlib.import_module("vit_pytorch.mobile_vit").MobileViT(
                (64, 64), [16, 24, 32], [16, 16, 24, 24, 32, 32, 40, 40, 48, 48, 64], 5
            ),
            (3, 64, 64),
        ),
        "vit_pytorch/NesT": (
            lambda: importlib.import_module("vit_pytorch.nest").NesT(
                image_size=64,
                patch_size=4,
                dim=8,
                heads=2,
                num_hierarchies=3,
                block_repeats=(1, 1, 1),
                num_classes=5,
            ),
            (3, 64, 64),
        ),
        "vit_pytorch/LeViT": (
            lambda: importlib.import_module("vit_pytorch.levit").LeViT(
                image_size=64, num_classes=5, stages=2, dim=(16, 24), depth=1, heads=2, mlp_mult=2
            ),
            (3, 64, 64),
        ),
        "vit_pytorch/RegionViT": (
            lambda: importlib.import_module("vit_pytorch.regionvit").RegionViT(
                dim=(8, 8, 8, 8), depth=(1, 1, 1, 1), window_size=2, num_classes=5
            ),
            (3, 64, 64),
        ),
    }
    for name, one in made.items():
        yield from named("", {name: one})


def _packaged() -> Iterator[tuple[str, Build]]:
    """Networks that a package makes by a function or a class of its own list."""
    quick: dict[str, Any] = {"pretrained": False}
    yield from _torchvision_more()
    try:
        models: Any = importlib.import_module("pretrainedmodels")
        for name in (
            "bninception",
            "fbresnet152",
            "inceptionv4",
            "nasnetamobile",
            "pnasnet5large",
            "polynet",
            "se_resnet50",
            "xception",
            "dpn68",
        ):

            def old(name: str = name, models: Any = models) -> tuple[nn.Module, tuple[int, ...]]:
                return getattr(models, name)(pretrained=None), (3, 224, 224)

            yield f"pretrainedmodels/{name}", old
    except ImportError:
        pass
    try:
        pixseg: Any = importlib.import_module("pixseg.models")
        for name in pixseg.list_models():

            def segments(
                name: str = name, pixseg: Any = pixseg
            ) -> tuple[nn.Module, tuple[int, ...]]:
                return pixseg.get_model_builder(name)(num_classes=5, weights_backbone=None), (
                    3,
                    96,
                    128,
                )

            yield f"pixseg/{name}", segments
    except ImportError:
        pass
    try:
        doctr: Any = importlib.import_module("doctr.models")
        for name in ("db_resnet50", "db_mobilenet_v3_large", "linknet_resnet18", "fast_tiny"):

            def finds(name: str = name, doctr: Any = doctr) -> tuple[nn.Module, tuple[int, ...]]:
                more = {**quick, "pretrained_backbone": False} if "fast" not in name else quick
                net = getattr(doctr.detection, name)(exportable=True, **more)
                return net, (3, 128, 96)

            yield f"doctr/{name}", finds
        for name in ("crnn_vgg16_bn", "crnn_mobilenet_v3_small", "vitstr_small", "parseq"):

            def reads(name: str = name, doctr: Any = doctr) -> tuple[nn.Module, tuple[int, ...]]:
                net = getattr(doctr.recognition, name)(
                    exportable=True, pretrained=False, pretrained_backbone=False
                )
                return net, (3, 32, 128)

            yield f"doctr/{name}", reads
        for name in ("textnet_tiny", "magc_resnet31", "vgg16_bn_r", "mobilenet_v3_small_r"):

            def kinds(name: str = name, doctr: Any = doctr) -> tuple[nn.Module, tuple[int, ...]]:
                return getattr(doctr.classification, name)(pretrained=False, num_classes=5), (
                    3,
                    32,
                    32,
                )

            yield f"doctr/{name}", kinds
    except ImportError:
        pass
    try:
        nnunet: Any = importlib.import_module("dynamic_network_architectures.architectures.unet")
        nnprimus: Any = importlib.import_module("dynamic_network_architectures.building_blocks")  # noqa: F841
        for name, dims in (
            ("PlainConvUNet", 2),
            ("PlainConvUNet", 3),
            ("ResidualEncoderUNet", 2),
            ("ResidualUNet", 2),
        ):
            for norm in ("InstanceNorm", "BatchNorm"):

                def nn_u(
                    name: str = name, dims: int = dims, norm: str = norm, nnunet: Any = nnunet
                ) -> tuple[nn.Module, tuple[int, ...]]:
                    blocks = "n_conv_per_stage" if name == "PlainConvUNet" else "n_blocks_per_stage"
                    net = getattr(nnunet, name)(
                        1,
                        3,
                        [8, 16, 16],
                        getattr(nn, f"Conv{dims}d"),
                        3,
                        [1, 2, 2],
                        num_classes=2,
                        n_conv_per_stage_decoder=1,
                        conv_bias=True,
                        norm_op=getattr(nn, f"{norm}{dims}d"),
                        norm_op_kwargs={"affine": True},
                        nonlin=nn.LeakyReLU,
                        nonlin_kwargs={"inplace": True},
                        deep_supervision=norm == "BatchNorm",
                        **{blocks: 2},
                    )
                    return net, (1, 48, 64) if dims == 2 else (1, 16, 24, 32)

                yield f"nnunet/{name}{dims}d/{norm}", nn_u
    except ImportError:
        pass
    try:
        effdet: Any = importlib.import_module("effdet")
        for name in ("tf_efficientdet_lite0", "efficientdet_d0", "cspresdext50pan"):

            def detects(
                name: str = name, effdet: Any = effdet
            ) -> tuple[nn.Module, tuple[int, ...]]:
                config = effdet.get_efficientdet_config(name)
                return effdet.EfficientDet(config, pretrained_backbone=False), (3, 128, 256)

            yield f"effdet/{name}", detects
    except ImportError:
        pass
    try:
        geffnet: Any = importlib.import_module("geffnet")
        for name in (
            "mixnet_s",
            "fbnetc_100",
            "spnasnet_100",
            "mobilenetv3_large_075",
            "efficientnet_es",
        ):

            def efficient(
                name: str = name, geffnet: Any = geffnet
            ) -> tuple[nn.Module, tuple[int, ...]]:
                return geffnet.create_model(name, pretrained=False), (3, 97, 129)

            yield f"geffnet/{name}", efficient
        one: Any = importlib.import_module("efficientnet_pytorch")

        def same() -> tuple[nn.Module, tuple[int, ...]]:
            return one.EfficientNet.from_name("efficientnet-b0"), (3, 224, 224)

        yield "efficientnet_pytorch/b0", same
    except ImportError:
        pass


def _torchvision_more() -> Iterator[tuple[str, Build]]:
    models: Any = importlib.import_module("torchvision.models")
    for name in ("r3d_18", "mc3_18", "r2plus1d_18", "s3d", "swin3d_t", "mvit_v1_b"):

        def video(name: str = name) -> tuple[nn.Module, tuple[int, ...]]:
            return getattr(models.video, name)(weights=None), (3, 16, 112, 112) if name[
                0
            ] != "m" or name == "mc3_18" else (3, 16, 224, 224)

        yield f"torchvision/{name}", video
    for name in ("resnet50", "vgg16", "mobilenet_v3_large"):

        def pyramid(name: str = name) -> tuple[nn.Module, tuple[int, ...]]:
            detection = models.detection.backbone_utils
            if name == "resnet50":
                return detection.resnet_fpn_backbone(backbone_name=name, weights=None), (3, 96, 129)
            if name == "vgg16":
                return models.detection.ssd._vgg_extractor(models.vgg16(weights=None), False, 2), (
                    3,
                    300,
                    300,
                )
            return detection.mobilenet_backbone(backbone_name=name, weights=None, fpn=True), (
                3,
                96,
                129,
            )

        yield f"torchvision/fpn/{name}", pyramid
    for name in ("fcos_resnet50_fpn", "retinanet_resnet50_fpn", "ssdlite320_mobilenet_v3_large"):

        def head(name: str = name) -> tuple[nn.Module, tuple[int, ...]]:
            net = getattr(models.detection, name)(weights=None, weights_backbone=None)
            return net.backbone, (3, 96, 128)

        yield f"torchvision/backbone/{name}", head


_OF_CLASSES = (
    "holocron.nn",
    "holocron.models",
    "compressai.layers",
    "mmcv.cnn",
    "torch_harmonics",
    "studiosr.models",
    "torch_enhance.models",
    "pytorch3dunet.unet3d",
    "a_unet",
    "careamics.models",
    "timm.layers",
    "kornia",
    "piq",
    "pyiqa.archs",
    "lightly.models",
    "fastmri.models",
    "torchaudio.models",
)
_NUMBERS = {"kernel": 3, "num_classes": 5, "window": 4, "patch": 4, "size": 3, "image": 32}
_SMALL = [
    "head",
    "group",
    "reduction",
    "ratio",
    "depth",
    "layer",
    "block",
    "scale",
    "factor",
    "upscale",
]
_ONES = ["stride", "dilation", "padding"]
_SIZES: tuple[tuple[int, ...], ...] = (
    (8, 33, 26),
    (3, 48, 56),
    (3, 64, 64),
    (1, 48, 56),
    (8, 50),
    (8, 9, 12, 14),
    (3, 128, 128),
    (4, 32, 40),
    (2, 40, 48),
    (1, 400),
    (3, 224, 224),
)


def _guessed(name: str) -> Any:
    """A value for an argument of this name, of a class of which nothing else is known."""
    name = name.lower()
    if "act" in name:
        return nn.ReLU
    if "norm" in name:
        return nn.BatchNorm2d
    if "drop" in name or "prob" in name:
        return 0.0
    if "resolution" in name or "input_size" in name:
        return (32, 32)
    for part, value in _NUMBERS.items():
        if part in name:
            return value
    if any(part in name for part in _SMALL):
        return 2
    return 1 if any(part in name for part in _ONES) else 8


def _by_guess(kind: type[nn.Module]) -> tuple[nn.Module, tuple[int, ...]]:
    """An instance of a class by guessed arguments, and the first size that it takes."""
    found: dict[str, Any] = {}
    for name, one in list(inspect.signature(kind.__init__).parameters.items())[1:]:
        if name.startswith(("pretrained", "weights")):
            found[name] = False if isinstance(one.default, bool) else None
        elif one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD):
            found[name] = _guessed(name)
    net = kind(**found).eval()
    kept = copy.deepcopy(net)
    for size in _SIZES:
        with contextlib.suppress(Exception), torch.no_grad():
            kept(torch.rand(1, *size))
            return net, size
    raise ValueError("takes none of the sizes that are tried")


def _of_classes() -> Iterator[tuple[str, Build]]:
    """Layers and networks of whole packages, each built by guesses from its arguments' names."""
    for package in _OF_CLASSES:
        with contextlib.suppress(ImportError):
            for name, kind in _classes_of(importlib.import_module(package)).items():

                def build(kind: type[nn.Module] = kind) -> tuple[nn.Module, tuple[int, ...]]:
                    return _by_guess(kind)

                yield f"{package}/{name}", build


def _classes_of(package: Any) -> dict[str, type[nn.Module]]:
    """The modules that a package and the modules in it define, by the end of their dotted name."""
    modules = [package]
    for one in pkgutil.walk_packages(getattr(package, "__path__", ()), f"{package.__name__}."):
        with contextlib.suppress(Exception):  # what one needs besides is not there
            modules.append(importlib.import_module(one.name))
    found: dict[str, type[nn.Module]] = {}
    for module in modules:
        for value in list(vars(module).values()):
            own = isinstance(value, type) and value.__module__.startswith(package.__name__)
            if own and issubclass(value, nn.Module) and "Loss" not in value.__name__:
                short = f"{value.__module__}.{value.__name__}".removeprefix(package.__name__)
                found[short.strip(".")] = value
    return found


SOURCES = (
    _smp,
    _timm_features,
    _timm,
    _monai,
    _torchvision,
    _spandrel,
    _pytorchcv,
    _ultralytics,
    _torchseg,
    _spandrel_extra,
    _resselt,
    _torchsr,
    _super_image,
    _deepinv,
    _diffusers,
    _transformers,
    _braindecode,
    _seisbench,
    _audio,
    _unets,
    _packaged,
    *SIGNALS,
)


def networks(guesses: bool = True) -> dict[str, Build]:
    """Every network by its name, of the packages that are there.

    With ``guesses``, whole packages' classes too, built by guesses from their arguments' names.
    """
    found: dict[str, Build] = {}
    for source in (*SOURCES, *([_of_classes] if guesses else [])):
        try:
            for name, build in source():
                found.setdefault(name, build)
        except Exception as error:
            print(f"left out: {error}", file=sys.stderr)
    return found

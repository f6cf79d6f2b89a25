"""Receptive fields, parameters and multiply-adds that others have published."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from eyeshot.cost import costs, total, unused_parameters
from eyeshot.frontends.torch import graph_of
from eyeshot.geometry import Fields
from eyeshot.geometry.fields import EXACT
from eyeshot.graph import Graph
from tests import zoo
from tests.zoo.positions import Up

PICTURE = (3, 224, 224)

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "alexnet": zoo.alexnet,
    "vgg11": lambda: zoo.vgg(11),
    "vgg16": zoo.vgg,
    "vgg16_bn": lambda: zoo.vgg(16, norm=True),
    "vgg19": lambda: zoo.vgg(19),
    "resnet18": lambda: zoo.resnet(18),
    "resnet34": lambda: zoo.resnet(34),
    "resnet50": lambda: zoo.resnet(50),
    "resnet101": lambda: zoo.resnet(101),
    "resnext50_32x4d": lambda: zoo.resnet(50, groups=32, base=4),
    "wide_resnet50_2": lambda: zoo.resnet(50, base=128),
    "squeezenet1_0": zoo.squeezenet,
    "googlenet": zoo.googlenet,
    "densenet121": zoo.densenet121,
    "mobilenet_v1": zoo.mobilenet_v1,
    "mobilenet_v2": zoo.mobilenet_v2,
    "convnext_tiny": zoo.convnext_tiny,
}

# Parameters, and billions of multiply-adds at 224 x 224. Linear layers are counted.
COSTS = {
    "alexnet": (61_100_840, 0.714),
    "vgg11": (132_863_336, 7.609),
    "vgg16": (138_357_544, 15.470),
    "vgg16_bn": (138_365_992, 15.470),
    "vgg19": (143_667_240, 19.632),
    "resnet18": (11_689_512, 1.814),
    "resnet34": (21_797_672, 3.664),
    "resnet50": (25_557_032, 4.089),
    "resnet101": (44_549_160, 7.801),
    "resnext50_32x4d": (25_028_904, 4.230),
    "wide_resnet50_2": (68_883_240, 11.398),
    "squeezenet1_0": (1_248_424, 0.819),
    "googlenet": (6_624_904, 1.498),
    "densenet121": (7_978_856, 2.834),
    "mobilenet_v1": (4_231_976, 0.569),
    "mobilenet_v2": (3_504_872, 0.301),
    "convnext_tiny": (28_589_128, 4.456),
}

# Receptive field, stride and padding before the first pixel, of the last map with positions.
FIELDS = {
    "alexnet": (195, 32, 66),
    "vgg16": (212, 32, 90),
    "resnet18": (435, 32, 217),
    "resnet50": (427, 32, 213),
    "mobilenet_v1": (315, 32, 157),
    "densenet121": (2071, 32, 1021),
}


def _on_meta(name: str) -> nn.Module:
    with torch.device("meta"):  # shapes alone: no time goes into filling weights
        return NETWORKS[name]()


def _last_map(graph: Graph, fields: Fields) -> str:
    """The last node that has positions and sees a bounded patch."""
    return [
        node.name
        for node in graph
        if None not in node.dims
        and fields.status(node.name) == EXACT
        and all(phases is not None for phases in fields.phases(node.name))
    ][-1]


@pytest.mark.parametrize("name", COSTS)
def test_parameters_multiply_adds_and_field(name: str) -> None:
    """In one test, so that one worker traces a network once."""
    graph = graph_of(_on_meta(name), PICTURE)
    parameters, billions = COSTS[name]
    spent = total(costs(graph).values())
    assert spent.parameters == parameters
    assert spent.multiply_adds / 1e9 == pytest.approx(billions, abs=0.0006)
    assert not unused_parameters(graph)
    assert not spent.uncounted
    if name in FIELDS:
        fields = Fields(graph)
        size, stride, padding = FIELDS[name]
        for field in fields.layer(_last_map(graph, fields)):
            assert (field.smallest, field.largest) == (size, size)
            assert field.stride == stride
            assert field.padding == padding


def test_every_field_is_compared() -> None:
    assert set(FIELDS) <= set(COSTS) <= set(NETWORKS)


@pytest.mark.parametrize("up", ["transpose", "shuffle"])
def test_a_unet_of_depth_4_needs_107_pixels_and_a_block_of_it_94(up: Up) -> None:
    graph = graph_of(zoo.UNet(4, base=4, up=up), (1, 32, 48))
    for phases in Fields(graph).phases(graph.outputs[0]):
        assert phases is not None
        assert phases.unit_halo() == (107, 107)
        assert phases.block_halo() == (94, 94)
        assert (phases.outputs, phases.inputs) == (16, 16)


@pytest.mark.parametrize(("count", "kernel"), [(2, 5), (3, 7)])
def test_stacked_3x3_see_what_one_larger_kernel_sees(count: int, kernel: int) -> None:
    small = nn.Sequential(*[nn.Conv2d(1, 1, 3, padding=1) for _ in range(count)])
    large = nn.Conv2d(1, 1, kernel, padding=kernel // 2)
    for unit in [(0, 0), (8, 3), (15, 15)]:
        boxes = []
        for net in (small, large):
            graph = graph_of(net, (1, 16, 16))
            field = Fields(graph).field(graph.outputs[0], unit)
            boxes.append((field.box, field.inside))
        assert boxes[0] == boxes[1]


SMALL: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    **{
        name: (NETWORKS[name], (3, 75, 64))
        for name in ("alexnet", "resnet18", "squeezenet1_0", "googlenet")
    },
    **{name: (NETWORKS[name], (3, 75, 64)) for name in ("mobilenet_v2", "convnext_tiny")},
    "densenet": (lambda: zoo.densenet121(4, (2, 2, 2)), (3, 75, 64)),
    "unet-transpose": (lambda: zoo.UNet(2, 4, "transpose"), (1, 32, 24)),
    "unet-bilinear": (lambda: zoo.UNet(2, 4, "bilinear"), (1, 32, 24)),
    "unet-shuffle": (lambda: zoo.UNet(2, 4, "shuffle"), (1, 32, 24)),
    "fpn": (zoo.FPN, (3, 32, 40)),
    "aspp": (zoo.ASPP, (3, 30, 26)),
    "inception": (zoo.inception_net, (3, 21, 32)),
    "squeeze-excite": (zoo.se_net, (3, 21, 32)),
}


@pytest.mark.parametrize("name", SMALL)
def test_shapes_are_those_of_a_real_forward_pass(name: str) -> None:
    make, size = SMALL[name]
    with torch.device("meta"):
        net = make()
    seen: dict[str, list[tuple[int, ...]]] = {}

    def note(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
            seen.setdefault(path, []).append(tuple(output.shape))

        return hook

    leaves = [(path, module) for path, module in net.named_modules() if not list(module.children())]
    handles = [module.register_forward_hook(note(path)) for path, module in leaves]
    net(torch.empty(1, *size, device="meta"))
    for handle in handles:
        handle.remove()
    graph = graph_of(net, size)
    for path, shapes in seen.items():
        for turn, shape in enumerate(shapes):
            name_of_turn = path if turn == 0 else f"{path}#{turn + 1}"
            if name_of_turn in graph.nodes:  # an identity leaves no operator behind
                assert graph.nodes[name_of_turn].shape == shape
    assert set(seen) & set(graph.nodes)

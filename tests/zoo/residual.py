"""ResNet (He et al., 2015) with the stride on the 3x3, ResNeXt and wide ResNet by arguments."""

from __future__ import annotations

from torch import Tensor, nn

from tests.zoo.parts import conv_norm_relu


class Block(nn.Module):
    """Two 3x3, or 1x1, 3x3 and 1x1 (``expansion`` 4), beside a shortcut."""

    def __init__(
        self, cin: int, width: int, stride: int, expansion: int, groups: int, base: int
    ) -> None:
        super().__init__()
        cout = width * expansion
        if expansion == 1:
            self.body = nn.Sequential(
                conv_norm_relu(cin, width, 3, stride),
                conv_norm_relu(width, width, 3, activation=None),
            )
        else:
            inner = width * base // 64 * groups
            self.body = nn.Sequential(
                conv_norm_relu(cin, inner, 1),
                conv_norm_relu(inner, inner, 3, stride, groups),
                conv_norm_relu(inner, cout, 1, activation=None),
            )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or cin != cout:
            self.shortcut = conv_norm_relu(cin, cout, 1, stride, activation=None)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        joined: Tensor = self.relu(self.body(x) + self.shortcut(x))
        return joined


class ResNet(nn.Module):
    """A 7x7 stem, a 3x3 max pool, four stages, a global average, one linear layer."""

    def __init__(
        self,
        blocks: tuple[int, ...],
        expansion: int,
        groups: int = 1,
        base: int = 64,
        width: int = 64,
        classes: int = 1000,
    ) -> None:
        super().__init__()
        self.stem = conv_norm_relu(3, width, 7, 2)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        stages: list[nn.Module] = []
        channels = width
        for level, count in enumerate(blocks):
            wide = width * 2**level
            stage = []
            for index in range(count):
                stride = 2 if level and not index else 1
                stage.append(Block(channels, wide, stride, expansion, groups, base))
                channels = wide * expansion
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages(self.maxpool(self.stem(x)))
        scores: Tensor = self.fc(self.avgpool(x).flatten(1))
        return scores


_DEPTHS: dict[int, tuple[tuple[int, ...], int]] = {
    18: ((2, 2, 2, 2), 1),
    34: ((3, 4, 6, 3), 1),
    50: ((3, 4, 6, 3), 4),
    101: ((3, 4, 23, 3), 4),
    152: ((3, 8, 36, 3), 4),
}


def resnet(depth: int, groups: int = 1, base: int = 64, width: int = 64) -> ResNet:
    """ResNet-18 to -152; ``groups`` 32 and ``base`` 4 give ResNeXt, ``base`` 128 a wide one."""
    blocks, expansion = _DEPTHS[depth]
    return ResNet(blocks, expansion, groups, base, width).eval()

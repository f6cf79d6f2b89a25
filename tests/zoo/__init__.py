"""Published networks, written out so that published figures can be held against ours."""

from tests.zoo.classifiers import (
    alexnet,
    convnext_tiny,
    densenet121,
    googlenet,
    mobilenet_v1,
    mobilenet_v2,
    squeezenet,
    vgg,
)
from tests.zoo.parts import GlobalHead, SqueezeExcite, conv_norm_relu
from tests.zoo.positions import ASPP, FPN, UNet, inception_net, se_net
from tests.zoo.residual import ResNet, resnet

__all__ = [
    "ASPP",
    "FPN",
    "GlobalHead",
    "ResNet",
    "SqueezeExcite",
    "UNet",
    "alexnet",
    "conv_norm_relu",
    "convnext_tiny",
    "densenet121",
    "googlenet",
    "inception_net",
    "mobilenet_v1",
    "mobilenet_v2",
    "resnet",
    "se_net",
    "squeezenet",
    "vgg",
]

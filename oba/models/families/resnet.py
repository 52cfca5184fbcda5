"""ResNets for small images: He et al. (2016), section 4.2, with projection shortcuts.

Three stages of 16, 32 and 64 channels (times a width factor), the second and third of which halve the
map; depth 6n + 2 has n blocks per stage. Where the shape changes, the shortcut is a 1x1 convolution
with batch norm (their option B). Every operation is a module of its own and none works in place, so
that hooks and forward-mode differentiation see each value as it was.
"""

from __future__ import annotations

from torch import Tensor, nn

from oba.models.families._parts import classifier, initialise, scaled
from oba.models.parse import parse_own

__all__ = ["build", "classifier"]


def build(name: str, *, num_classes: int, input_size: tuple[int, int, int]) -> ResNet:
    """Build a ResNet by its name.

    Args:
        name: Such as ``resnet32x4``.
        num_classes: Classes.
        input_size: Channels, height and width of the images.

    Returns:
        The net.
    """
    depth, width = parse_own(name)
    return ResNet(depth, width, num_classes, input_size[0])


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut around them."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        """Make the layers.

        Args:
            inputs: Channels of the input.
            outputs: Channels of both convolutions.
            stride: Stride of the first convolution and of the shortcut.
        """
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(outputs))
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block.

        Args:
            x: (images, inputs, height, width).

        Returns:
            (images, outputs, height / stride, width / stride), rounded up.
        """
        residual = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(self.shortcut(x) + residual)


class ResNet(nn.Module):
    """A ResNet for images of any size; its maps never get smaller than one pixel."""

    def __init__(self, depth: int, width: float, num_classes: int, channels: int) -> None:
        """Make the layers, with He initialisation.

        Args:
            depth: Convolutions and the classifier on the longest path: 6n + 2.
            width: Factor of the channel counts 16, 32, 64.
            num_classes: Classes.
            channels: Channels of the images.
        """
        super().__init__()
        blocks = (depth - 2) // 6
        small, middle, large = (scaled(count, width) for count in (16, 32, 64))
        self.conv1 = nn.Conv2d(channels, small, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(small)
        self.relu = nn.ReLU()
        self.layer1 = _stage(small, small, blocks, stride=1)
        self.layer2 = _stage(small, middle, blocks, stride=2)
        self.layer3 = _stage(middle, large, blocks, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(large, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images.

        Args:
            x: (images, channels, height, width).

        Returns:
            Logits, (images, classes).
        """
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(self.flatten(self.pool(x)))


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    """Chain blocks, the first of which changes the shape."""
    rest = [Block(outputs, outputs, 1) for _ in range(blocks - 1)]
    return nn.Sequential(Block(inputs, outputs, stride), *rest)

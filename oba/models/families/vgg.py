"""VGG nets with batch norm and a single linear classifier, as is usual on CIFAR.

Simonyan and Zisserman (2015), table 1, configurations A, B, D and E: five stages of 3x3 convolutions,
each followed by a 2x2 max-pool. The convolutions have no bias, which batch norm would cancel. A pool is
left out where the map is one pixel already, so that small images pass; at 32x32 all five are there and
the last map is one pixel. What is left of the map is averaged. Layers have the same names at every
image size (``features.conv3_2`` is the second convolution of the third stage).
"""

from __future__ import annotations

from torch import Tensor, nn

from oba.models.families._parts import classifier, initialise, scaled
from oba.models.parse import parse_own

__all__ = ["build", "classifier"]

_CHANNELS = (64, 128, 256, 512, 512)
_CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


def build(name: str, *, num_classes: int, input_size: tuple[int, int, int]) -> VGG:
    """Build a VGG by its name.

    Args:
        name: Such as ``vgg19``.
        num_classes: Classes.
        input_size: Channels, height and width of the images.

    Returns:
        The net.
    """
    depth, width = parse_own(name)
    return VGG(depth, width, num_classes, input_size)


class VGG(nn.Module):
    """A VGG net for images of one size."""

    def __init__(self, depth: int, width: float, num_classes: int, input_size: tuple[int, int, int]) -> None:
        """Make the layers, with He initialisation.

        Args:
            depth: 11, 13, 16 or 19, after the original nets, which had three linear layers.
            width: Factor of the channel counts 64 to 512.
            num_classes: Classes.
            input_size: Channels, height and width of the images; decides which pools there are.
        """
        super().__init__()
        inputs, edge = input_size[0], min(input_size[1:])
        self.features = nn.Sequential()
        for stage, (channels, convolutions) in enumerate(zip(_CHANNELS, _CONVOLUTIONS[depth], strict=True), start=1):
            outputs = scaled(channels, width)
            for place in range(1, convolutions + 1):
                self.features.add_module(f"conv{stage}_{place}", nn.Conv2d(inputs, outputs, 3, padding=1, bias=False))
                self.features.add_module(f"bn{stage}_{place}", nn.BatchNorm2d(outputs))
                self.features.add_module(f"relu{stage}_{place}", nn.ReLU())
                inputs = outputs
            if edge > 1:
                self.features.add_module(f"pool{stage}", nn.MaxPool2d(2))
                edge //= 2
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(inputs, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images.

        Args:
            x: (images, channels, height, width).

        Returns:
            Logits, (images, classes).
        """
        return self.fc(self.flatten(self.pool(self.features(x))))

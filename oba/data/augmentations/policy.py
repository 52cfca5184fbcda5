"""Colour jitter and augmentation policies of published recipes, by timm and torchvision.

They draw from the global generators of Python, numpy and torch; whoever applies them seeds all three.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PIL import Image
from timm.data.auto_augment import auto_augment_transform, posterize, rand_augment_transform
from torchvision.transforms import ColorJitter, InterpolationMode, TrivialAugmentWide

from oba.data.images import RESAMPLING
from oba.datasets import AugmentConfig

Change = Callable[[Image.Image], Image.Image]


def policy_changes(config: AugmentConfig, edge: int, mean: tuple[float, ...]) -> list[Change]:
    """Build the colour jitter and the policy of a recipe.

    Args:
        config: The settings.
        edge: Shorter edge of the images in pixels.
        mean: Per channel, of pixels in [0, 1].

    Returns:
        Functions of RGB images, in the order in which they are applied.
    """
    changes: list[Any] = []
    if config.color_jitter > 0:
        changes.append(ColorJitter(*[config.color_jitter] * 3))
    # As timm.data.create_transform sets them.
    hints: dict[str, Any] = {"translate_const": int(edge * 0.45), "img_mean": _fill(mean)}
    if config.interpolation != "random":
        hints["interpolation"] = RESAMPLING[config.interpolation]
    if config.policy == "trivial":
        bicubic = config.interpolation == "bicubic"
        changes.append(TrivialAugmentWide(interpolation=InterpolationMode["BICUBIC" if bicubic else "BILINEAR"]))
    elif config.policy.startswith("rand"):
        policy = rand_augment_transform(config.policy, hints)
        changes.append(_with_black(policy, policy.ops))
    elif config.policy != "none":
        policy = auto_augment_transform(config.policy, hints)
        changes.append(_with_black(policy, [op for ops in policy.policy for op in ops]))
    return changes


make = policy_changes


def _with_black(policy: Any, ops: list[Any]) -> Any:
    """Let a policy's operations posterize to no bits, which is black, and which Pillow 13 refuses."""

    def posterize_or_black(image: Image.Image, bits: int, **_: Any) -> Image.Image:
        return posterize(image, bits) if bits >= 1 else Image.new(image.mode, image.size)

    for op in ops:
        if op.aug_fn is posterize:
            op.aug_fn = posterize_or_black
    return policy


def _fill(mean: tuple[float, ...]) -> tuple[int, ...]:
    return tuple(min(255, round(255 * value)) for value in (mean * 3 if len(mean) == 1 else mean))

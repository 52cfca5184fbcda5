"""Pretrained weights that timm and torchvision publish: which there are, and what each was trained on.

Nothing is downloaded here. What a library knows of its weights costs importing it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from oba.config import ModelConfig
from oba.errors import ConfigError
from oba.models.names import LIBRARIES

_CLOSE = 1e-3
"""Difference of a mean or a standard deviation that is rounding."""


@dataclass(frozen=True)
class PublishedWeights:
    """One set of weights of one net.

    Attributes:
        library: ``timm`` or ``torchvision``.
        net: The net's name in the library, without tag.
        tag: What the library calls the weights.
        source: Where they are downloaded from.
        num_classes: Outputs of their classifier; 0 without one.
        mean: Mean of each input channel that they were trained with, in [0, 1] units.
        std: Standard deviation of each input channel, in [0, 1] units.
    """

    library: str
    net: str
    tag: str
    source: str
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def statistics(self, channels: int) -> tuple[list[float], list[float]]:
        """Return what inputs should be normalised with.

        Args:
            channels: Of the images.

        Returns:
            Mean and standard deviation of each channel; averages over the channels that the weights were trained with
            if the images have another number, for which the first filters are adapted.
        """
        if channels == len(self.mean):
            return list(self.mean), list(self.std)
        mean, std = (round(sum(values) / len(values), 4) for values in (self.mean, self.std))
        return [mean] * channels, [std] * channels

    def check_classes(self, num_classes: int, replace_head: bool) -> None:
        """Refuse a classifier that is to stay and has another number of classes.

        Args:
            num_classes: Classes of the data set.
            replace_head: Whether the classifier gives way to a new one.

        Raises:
            ConfigError: If it stays and does not fit.
        """
        if not replace_head and self.num_classes != num_classes:
            have = f"{self.num_classes} classes" if self.num_classes else "no classifier"
            raise ConfigError(
                f"dense.replace_head: the weights {self.tag!r} have {have}, but the data set has {num_classes}; "
                "allowed: true (a new classifier, to be trained), or weights with as many classes"
            )

    def mismatch(self, channels: int, used: tuple[Sequence[float], Sequence[float]] | None) -> str | None:
        """Say how images should be normalised for these weights.

        Args:
            channels: Of the images.
            used: Mean and standard deviation of each channel that they are normalised with; None if these are measured
                on the data set.

        Returns:
            What is wrong and which settings fit; None if nothing is.
        """
        mean, std = wanted = self.statistics(channels)
        if used is not None and all(
            len(have) == channels and all(abs(a - b) < _CLOSE for a, b in zip(have, want, strict=True))
            for have, want in zip(used, wanted, strict=True)
        ):
            return None
        return (
            f"the weights {self.tag!r} were trained on images normalised otherwise than by this study: data: "
            f"{{normalization: given, mean: {mean}, std: {std}}}"
        )

    def warnings(self, channels: int, used: tuple[Sequence[float], Sequence[float]] | None) -> list[str]:
        """Say in what images differ from those that the weights were trained on.

        Args:
            channels: Of the images.
            used: As for :meth:`mismatch`.

        Returns:
            One line each.
        """
        adapted = f"the weights {self.tag!r} of {len(self.mean)} channels are adapted to images of {channels}"
        found = [adapted if channels != len(self.mean) else None, self.mismatch(channels, used)]
        return [line for line in found if line]


def resolved(model: ModelConfig) -> ModelConfig:
    """Spell out which published weights a model starts from.

    Args:
        model: The model, whose name exists.

    Returns:
        The model with the tag of its weights; as it is if it starts from others, or nobody publishes weights for it.
    """
    if model.dense.source != "pretrained":
        return model
    tag = default_tag(model.name, model.dense.weights)
    return model.model_copy(update={"dense": model.dense.model_copy(update={"weights": tag})})


def default_tag(name: str, tag: str | None = None) -> str | None:
    """Return the tag of the weights that a study means.

    Args:
        name: A name that :func:`oba.models.names.check_name` accepts; timm's may carry a tag.
        tag: The tag that the study gives, if it does.

    Returns:
        The given tag, else the name's, else the library's default; None if nobody publishes weights for the net.
        Torchvision's ``DEFAULT`` is spelled out.
    """
    library, net, own = _parse(name)
    tags = published_tags(name)
    if library == "torchvision" and tag in {None, "DEFAULT"} and tags:
        return _torchvision(net).DEFAULT.name
    return tag or own or (_timm_default(net, tags) if tags else None)


def published_tags(name: str) -> list[str]:
    """List the tags of a net's published weights.

    Args:
        name: A name that :func:`oba.models.names.check_name` accepts.

    Returns:
        The tags, none for this project's own nets.
    """
    library, net, _ = _parse(name)
    if library == "timm":
        import timm

        return [other.partition(".")[2] for other in timm.list_pretrained(net) if other.partition(".")[0] == net]
    if library == "torchvision":  # weights without classes lack the layers before the classifier, too (VGG's)
        return [weights.name for weights in _torchvision(net) if weights.meta["categories"]]
    return []


def find_published(name: str, tag: str | None) -> PublishedWeights:
    """Look up pretrained weights.

    Args:
        name: A name that :func:`oba.models.names.check_name` accepts; timm's may carry a tag.
        tag: The weights' tag; without it, :func:`default_tag`.

    Returns:
        What is known of them before they are downloaded.

    Raises:
        ConfigError: If there are no such weights, or the name carries another tag.
    """
    library, net, own = _parse(name)
    tags = published_tags(name)
    if not tags:
        raise ConfigError(
            "dense.from: 'pretrained', but nobody publishes weights for this net; allowed: 'train' or a weight file, "
            f"perhaps for this model alone: models: [{{name: {name}, dense: {{from: train, epochs: ...}}}}]"
        )
    if tag and own and tag != own:
        raise ConfigError(
            f"dense.weights: got {tag!r}, but the model's name says {own!r}; allowed: one of them, or both alike"
        )
    tag = default_tag(name, tag)
    if tag not in tags:
        raise ConfigError(f"dense.weights: {library} publishes no {tag!r} for {net}; allowed: {', '.join(tags)}")
    return _of_timm(net, tag) if library == "timm" else _of_torchvision(net, tag)


def _parse(name: str) -> tuple[str, str, str]:
    """Return library (empty for nets of this project), net and tag (empty without)."""
    library, _, rest = name.partition("/")
    if library not in LIBRARIES:
        return "", name, ""
    net, _, tag = rest.partition(".")
    return library, net, tag


def _timm_default(net: str, tags: list[str]) -> str:
    """Return timm's own choice; of nets that it has none for, the first tag."""
    import timm

    own = timm.get_pretrained_cfg(net)
    return own.tag if own is not None and own.tag in tags else tags[0]


def _torchvision(net: str) -> Any:
    """Return the enumeration of a net's weights."""
    import torchvision

    return torchvision.models.get_model_weights(net)


def _of_timm(net: str, tag: str) -> PublishedWeights:
    import timm
    from huggingface_hub import constants

    found: Any = timm.get_pretrained_cfg(f"{net}.{tag}")
    source = f"{constants.ENDPOINT}/{found.hf_hub_id}" if found.hf_hub_id else str(found.url)
    return PublishedWeights("timm", net, tag, source, found.num_classes, tuple(found.mean), tuple(found.std))


def _of_torchvision(net: str, tag: str) -> PublishedWeights:
    from oba.models.families.torchvision import AUXILIARY

    weights = _torchvision(net)[tag]
    inputs = weights.transforms()
    mean, std = tuple(inputs.mean), tuple(inputs.std)
    if net in AUXILIARY:  # trained at 0.5 and 0.5; torchvision converts ImageNet's statistics inside of the net
        mean, std = (0.5,) * 3, (0.5,) * 3
    return PublishedWeights("torchvision", net, tag, weights.url, len(weights.meta["categories"]), mean, std)

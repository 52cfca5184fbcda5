"""A stored net with what its experiment knows: images, structures, criterion, machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor, nn

from oba import registry
from oba.config import Choice, Study
from oba.data.bundle import DataBundle, load_bundle
from oba.data.split_files import read_splits
from oba.datasets import AugmentConfig
from oba.errors import FileError
from oba.files import read_json
from oba.importance.criterion import Criterion, make_criterion
from oba.layout import Coordinates, Layout, model_of, require_job
from oba.models import build_model
from oba.models.stored import PLAN
from oba.places import coordinates_of, experiment_of
from oba.pruning.dependencies import find_groups
from oba.pruning.plan import restrict
from oba.pruning.replay import load_pruned, read_plan
from oba.seeds import derive_seed
from oba.structures import StructureGroup, groups_from_json
from oba.study import load_resolved
from oba.training.device import keep_freed_memory, make_deterministic, pick_device, set_threads

_BATCH = 256
"""Validation images per batch: as many as wherever stages measure on them."""


@dataclass(frozen=True)
class Split:
    """Images in batches, to be gone through again and again."""

    bundle: DataBundle
    part: str
    batch: int

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Go through the images once."""
        return getattr(self.bundle, self.part).batches(self.batch)


@dataclass(frozen=True)
class StoredNet:
    """A net of an experiment, on its device.

    Attributes:
        study: The experiment's study.
        layout: Its paths.
        at: The net's coordinates.
        model: The net, in eval mode.
        groups: What can still go of it, in its own coordinates.
        bundle: Its images; its test images are never asked for.
    """

    study: Study
    layout: Layout
    at: Coordinates
    model: nn.Module = field(repr=False)
    groups: list[StructureGroup] = field(repr=False)
    bundle: DataBundle = field(repr=False)

    @property
    def seed(self) -> int:
        """The sweep's seed."""
        assert self.at.seed is not None, "a folder without a seed is refused"
        return self.at.seed

    @property
    def name(self) -> str:
        """The net as a folder's name: its chain, level and variant."""
        at = self.at
        return f"{at.method}-{at.schedule}-keep{at.keep}-{at.variant}" if at.keep else at.variant

    @property
    def calibration(self) -> Split:
        """The images that score."""
        return Split(self.bundle, "calibration", self.study.calibration.batch_size)

    @property
    def val(self) -> Split:
        """The images that measure."""
        return Split(self.bundle, "val", _BATCH)

    def criterion(self, name: str | None) -> Criterion:
        """Return a criterion with the options of the study's first method that has it.

        Args:
            name: A registered name; without it, the study's first method's, or ``magnitude`` where all methods remove
                single weights.

        Returns:
            The criterion; it draws what the first round of pruning this net draws.
        """
        if name is not None:
            registry.check("criterion", name, "--criterion")
        own = [method.criterion for method in self.study.methods if method.granularity == "structures"]
        found = next((choice for choice in own if name in {None, choice.name}), Choice(name=name or "magnitude"))
        seed = derive_seed(self.seed, "scores", sum(map(len, self.groups)))
        return make_criterion(found.name, seed, **found.options)


def read_net(directory: Path, device: str | None = None, threads: int | None = None) -> StoredNet:
    """Read a net and its experiment, and set up the machine as for pruning it.

    Args:
        directory: The net's folder: ``…/dense``, ``…/pruned``, ``…/finetuned`` or ``…/scratch``.
        device: ``auto``, ``cpu`` or ``cuda``; the study's if not given.
        threads: CPU threads; those that the study gives pruning if not given.

    Returns:
        The net.

    Raises:
        FileError: If the folder is no net of an experiment, or a file is missing or damaged.
    """
    root = experiment_of(directory)
    at = coordinates_of(directory, root) if root else Coordinates()
    if root is None or not at.variant or not (directory / PLAN).is_file():
        raise FileError(
            f"{directory}: no stored net of an experiment; allowed: a folder with {PLAN} below "
            "results/<experiment>/<model>/seed<n>, such as …/dense or …/keep0.40/finetuned"
        )
    study, layout = load_resolved(root / "study.json"), Layout(root.absolute().name, root.parent)
    set_threads(threads or study.threads.prune)
    keep_freed_memory()
    chosen = pick_device(device or study.runtime.device)
    make_deterministic(chosen, study.runtime.deterministic)
    splits = read_splits(layout.split(at))
    bundle = load_bundle(layout.data, splits, AugmentConfig(), chosen, calibration=study.calibration.images)
    model = load_pruned(directory).to(chosen)
    return StoredNet(study, layout, at, model, _groups(study, layout, at, directory), bundle)


def _groups(study: Study, layout: Layout, at: Coordinates, directory: Path) -> list[StructureGroup]:
    """Return what can go of a net: what was traced on the dense one, if some method of the study needed that."""
    card, plan = read_plan(directory)
    if layout.structures(at).is_file():
        return restrict(groups_from_json(read_json(layout.structures(at))), plan)[0]
    require_job(study, Coordinates(at.model))
    dense = build_model(card.name, num_classes=card.num_classes, input_size=card.input_size)
    options = model_of(study, at.model).structures.model_dump()
    return restrict(find_groups(dense, card.input_size, **options), plan)[0]

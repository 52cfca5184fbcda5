"""Classes of images that lie in one folder: a file of lines ``<image> <class>``.

``ILSVRC2012_val_00000001.JPEG n01751748`` is such a line. Kaggle's ``LOC_val_solution.csv`` is read as well; its lines
name an image without suffix, its class, and boxes. The devkit's ``ILSVRC2012_validation_ground_truth.txt`` is refused:
its numbers are those of ``meta.mat``, and not of the sorted class names.
"""

from __future__ import annotations

from pathlib import Path

from oba.errors import ConfigError, DataError

DEFAULT_NAMES = ("val_labels.txt", "LOC_val_solution.csv")
"""Where classes are looked for, in the folder of the images."""
_KAGGLE = "ImageId,PredictionString"
_ALLOWED = "allowed: lines '<image> <class>', such as ILSVRC2012_val_00000001.JPEG n01751748"
_NAMED = 10


def label_file(given: str | None, root: Path, folder: Path) -> Path:
    """Find the file that names the classes of the images in a folder.

    Args:
        given: ``data.labels``.
        root: The folder that it is relative to.
        folder: The folder of the images, for the message.

    Returns:
        The file.

    Raises:
        ConfigError: If none is given and none is there by a default name.
        DataError: If the one that is given is not there.
    """
    if given is not None:
        path = root / Path(given).expanduser()
        if not path.is_file():
            raise DataError(f"data.labels: {path}: no such file")
        return path
    for name in DEFAULT_NAMES:
        if (root / name).is_file():
            return root / name
    raise ConfigError(
        f"data.labels: not given, but images lie directly in {folder}, and neither of {' and '.join(DEFAULT_NAMES)} is "
        f"in {root}; {_ALLOWED}"
    )


def read_labels(path: Path, folder: Path, images: list[str], classes: list[str]) -> list[list[str]]:
    """Sort the images of a folder by class.

    Args:
        path: The file of the labels.
        folder: The folder of the images, for messages.
        images: The names of its image files, sorted.
        classes: Names of the classes, by label.

    Returns:
        The names of the images of every class, by label, each sorted.

    Raises:
        DataError: If the file is not of one of the known formats, names an image twice, an unknown class or an image
            that is not there, or leaves out an image.
    """
    known = _parsed(path)
    labels = {name: label for label, name in enumerate(classes)}
    strange = [name for name in known.values() if name not in labels]
    if strange:
        raise DataError(
            f"data.labels: {path} names {len(set(strange))} classes that train/ does not have, such as {strange[0]}; "
            f"allowed: the {len(classes)} names of its folders, such as {classes[0]}"
        )
    found: list[list[str]] = [[] for _ in classes]
    unlabelled = []
    for image in images:
        key = image if image in known else image.rpartition(".")[0]
        if key in known:
            found[labels[known.pop(key)]].append(image)
        else:
            unlabelled.append(image)
    for names, message in (
        (unlabelled, f"of {len(images)} images in {folder} have no label in {path}"),
        (list(known), f"images that {path} labels are not in {folder}"),
    ):
        if names:
            rest = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            raise DataError(f"data.labels: {len(names)} {message}: {', '.join(names[:_NAMED])}{rest}")
    return found


def _parsed(path: Path) -> dict[str, str]:
    """Return the class of every image that a file names."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"data.labels: {path} cannot be read ({error}); {_ALLOWED}") from error
    kaggle = bool(lines) and lines[0].strip() == _KAGGLE
    known: dict[str, str] = {}
    for number, line in enumerate(lines[kaggle:], start=1 + kaggle):
        fields = line.replace(",", " ", 1).split() if kaggle else line.split()
        if not fields:
            continue
        if len(fields) == 1 and fields[0].isdigit():
            raise DataError(
                f"data.labels: {path} holds bare numbers, as the devkit's ground truth, whose classes only its "
                f"meta.mat names; {_ALLOWED}"
            )
        if len(fields) < 2 or (len(fields) > 2 and not kaggle):
            raise DataError(f"data.labels: {path}, line {number}: {line.strip()[:60]!r}; {_ALLOWED}")
        if fields[0] in known:
            raise DataError(f"data.labels: {path}, line {number}: {fields[0]} has a label already")
        known[fields[0]] = fields[1]
    return known

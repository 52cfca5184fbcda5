"""A sweep's stage outputs, made up but plausible, without any net."""

from __future__ import annotations

import csv
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from oba.report.net import Net
from oba.report.style import styled

DENSE_MACS, DENSE_PARAMETERS = 40_000_000, 270_000
LAYERS = {"conv1": 16, "layer1.0.conv1": 16, "layer1.1.conv1": 16, "layer2.0.conv1": 32, "layer2.1.conv1": 32}
LAYERS |= {"layer3.0.conv1": 64, "layer3.1.conv1": 64}
PENALTY = {"oba-joint": 0.0, "taylor": 1.4, "magnitude": 2.1, "random": 6.0, "dense-longer": 0.0}


def draw(*key: Any) -> np.random.Generator:
    """A generator for one purpose."""
    return np.random.default_rng(zlib.crc32(repr(key).encode()))


def put(path: Path, value: Any) -> None:
    """Write JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


@dataclass
class Sweep:
    """A study's outputs under one directory.

    The defaults are three methods at three levels with two seeds.
    """

    root: Path
    models: Sequence[str] = ("resnet20",)
    seeds: Sequence[int] = (0, 1)
    methods: Sequence[str] = ("oba-joint", "taylor", "magnitude")
    masking: Sequence[str] = ()
    """Those of the methods that remove single weights."""
    schedules: Sequence[str] = ("iterative",)
    keep: Sequence[float] = (0.7, 0.5, 0.3)
    controls: Sequence[str] = ()
    top5: bool = True
    warnings: bool = False
    update: Callable[[str], str] = lambda method: "norm"
    faster: bool = True
    test_images: int = 2000
    epochs: int = 12
    layers: dict[str, int] = field(default_factory=lambda: dict(LAYERS))

    def write(self) -> list[Net]:
        """Write all files and return the nets."""
        nets = []
        for model in self.models:
            put(self.root / model / "structures.json", structures_json(self.layers))
            for seed in self.seeds:
                nets.append(self._dense(model, seed))
                names = [*self.methods, *(["dense-longer"] if "dense-longer" in self.controls else [])]
                for method in names:
                    for schedule in self.schedules:
                        for keep in self.keep:
                            nets += self._level(model, seed, method, schedule, keep)
        return nets

    def top1(self, model: str, seed: int, method: str, keep: float, scratch: bool = False) -> float:
        """The test accuracy that a net is given."""
        base = 0.972 - 0.03 * self.models.index(model)
        noise = draw("top1", model, seed, method, keep, scratch).normal() * 0.003
        drop = (1.2 + PENALTY.get(method, 2.8)) * (1 - keep) ** 1.6 / 50
        if method in ("dense", "dense-longer"):
            drop = -0.003 * (method == "dense-longer")
        return round(base - drop - (0.012 if scratch else 0) + noise, 4)

    def _dense(self, model: str, seed: int) -> Net:
        directory = self.root / model / f"seed{seed}" / "dense"
        self._net(directory, self.top1(model, seed, "dense", 1.0), 1.0, 1.0, 3 * self.epochs)
        return Net(model, seed, "dense", "", 1.0, "dense", directory)

    def _level(self, model: str, seed: int, method: str, schedule: str, keep: float) -> list[Net]:
        directory = self.root / model / f"seed{seed}" / f"{method}-{schedule}" / f"keep{keep:.2f}"
        longer = method == "dense-longer"
        kept = round(keep - draw("macs", model, seed, method, keep).random() * 0.012, 4)
        if longer or method in self.masking:
            kept = 1.0
        self._net(directory / "finetuned", self.top1(model, seed, method, keep), kept, keep, self.epochs)
        nets = [Net(model, seed, method, schedule, keep, "finetuned", directory / "finetuned")]
        if not longer:
            self._pruned(directory / "pruned", model, seed, method, keep, kept)
            if "scratch" in self.controls:
                top1 = self.top1(model, seed, method, keep, scratch=True)
                self._net(directory / "scratch", top1, kept, keep, 4 * self.epochs)
                nets.append(Net(model, seed, method, schedule, keep, "scratch", directory / "scratch"))
        return nets

    def weights(self, model: str, seed: int, method: str, keep: float) -> dict[str, Any] | None:
        """How many weights a method leaves of every layer: by the layer's place, the level and the seed."""
        if method not in self.masking:
            return None
        dense = {f"{layer}.weight": 9 * size * size for layer, size in self.layers.items()}
        kept = {name: round(n * keep ** (0.6 + 0.2 * i)) - 2 * seed for i, (name, n) in enumerate(dense.items())}
        return {"kept": kept, "dense": dense, "fraction": sum(kept.values()) / sum(dense.values())}

    def _net(self, directory: Path, top1: float, kept: float, keep: float, epochs: int) -> None:
        speedup = round(1 / (0.25 + 0.75 * kept), 3) if self.faster else 1.02
        cost = {
            "macs": round(DENSE_MACS * kept),
            "parameters": round(DENSE_PARAMETERS * kept),
            "bytes": round(1.1e6 * kept),
        }
        top5 = {"top5": 0.999 if self.top5 else None}
        put(
            directory / "evaluation.json",
            {
                "test": {"loss": round(1.3 - top1, 4), "top1": top1, **top5, "images": self.test_images},
                "cost": cost,
                "macs_kept": kept,
                "parameters_kept": kept,
                "weights": self.weights(*coordinates_of(directory)),
                "latency": {
                    "batch": 32,
                    "runs": 30,
                    "median_ms": round(8 / speedup, 3),
                    "dense_median_ms": 8.0,
                    "speedup": speedup,
                    "speedup_low": round(speedup * 0.96, 3),
                    "speedup_high": round(speedup * 1.05, 3),
                    "deterministic": False,
                    "cudnn_benchmark": False,
                },
                "device": "cpu",
                "threads": 1,
            },
        )
        val = {"loss": 0.2, "top1": round(top1 - 0.004, 4), **top5, "images": 500}
        put(
            directory / "metrics.json",
            {
                "val": val,
                "epochs": epochs,
                "total_epochs": epochs,
                "selected_epoch": epochs,
                "seconds": 4.5 * epochs,
            },
        )
        self._history(directory / "history.csv", top1, keep, epochs)

    def _history(self, path: Path, top1: float, keep: float, epochs: int) -> None:
        generator = draw(path.parent.parts[-4:])
        dense = path.parent.name == "dense"
        start = 0.25 if dense else 0.06 + 0.05 * (1 - keep)
        with path.open("w", newline="") as stream:
            writer = csv.writer(stream)
            header = "epoch,lr,train_loss,train_top1,val_loss,val_top1,images_per_second,seconds"
            writer.writerow(header.split(","))
            for epoch in range(1, epochs + 1):
                left = np.exp(-4.5 * epoch / epochs)
                loss = (2.2 if dense else 0.5) * left + 0.02 + generator.random() * 0.004
                val = top1 - 0.004 - start * left + generator.normal() * 0.004 * left**0.5
                writer.writerow([epoch, 0.1, round(loss, 5), 0.9, 0.3, round(float(val), 4), 9000.0, 4.5])

    def _pruned(self, directory: Path, model: str, seed: int, method: str, keep: float, kept: float) -> None:
        generator = draw("plan", model, seed, method, keep)
        axes = []
        for index, (layer, size) in enumerate(self.layers.items()):
            wobble = 1 + 0.5 * np.sin(index * 1.7 + len(method)) * (1 - keep)
            left = int(np.clip(round(size * keep**0.8 * wobble + generator.normal() * 0.6), 1, size))
            if self.warnings and keep == min(self.keep) and index == 3:
                left = 1
            axes.append((layer, sorted(generator.choice(size, left, replace=False).tolist()), size))
        put(directory / "plan.json", plan_json(axes))
        cut = [f"{layer} keeps {len(kept)} of {size} channels" for layer, kept, size in axes if len(kept) < 0.05 * size]
        val = {"loss": 0.9, "top1": 0.61, "top5": 0.95 if self.top5 else None, "images": 500}
        put(
            directory / "metrics.json",
            {
                "val": val,
                "val_before": val,
                "keep": keep,
                "macs": round(DENSE_MACS * kept),
                "macs_kept": kept,
                "weights": self.weights(model, seed, method, keep),
                "total_epochs": 3 * self.epochs,
                "method": {"criterion": "oba", "allocation": "uniform", "update": self.update(method)},
                "rounds": [],
                "calibration_images": 512,
                "warnings": cut if self.warnings else [],
            },
        )


def coordinates_of(directory: Path) -> tuple[str, int, str, float]:
    """The model, seed, method and level of a net's folder."""
    if directory.name == "dense":
        return directory.parts[-3], int(directory.parts[-2].removeprefix("seed")), "dense", 1.0
    model, seed, chain, level = directory.parts[-5:-1]
    return model, int(seed.removeprefix("seed")), chain.rpartition("-")[0], float(level.removeprefix("keep"))


def plan_json(axes: Sequence[tuple[str, list[int], int]]) -> dict[str, Any]:
    """A plan file: for every layer the kept output channels and the dense number."""
    return {"card": {}, "plan": {"axes": [{"layer": n, "axis": "out", "size": s, "kept": k} for n, k, s in axes]}}


def structures_json(layers: dict[str, int]) -> list[dict[str, Any]]:
    """A file of structures: every layer's channels are coupled to its norm."""

    def rows(size: int) -> list[list[int]]:
        return [[position] for position in range(size)]

    return [
        {
            "name": layer,
            "kind": "channel",
            "slices": [
                {"layer": layer, "axis": "out", "indices": rows(size)},
                {"layer": layer.replace("conv", "bn"), "axis": "feature", "indices": rows(size)},
            ],
        }
        for layer, size in layers.items()
    ]


@pytest.fixture
def make_sweep(tmp_path: Path) -> Callable[..., Sweep]:
    """Make a sweep under a temporary directory; options are the fields of `Sweep`."""
    return lambda **options: Sweep(tmp_path / "results", **options)


@pytest.fixture
def texts_drawn(monkeypatch: pytest.MonkeyPatch) -> Callable[[Figure], list[tuple[str, Any]]]:
    """Draw a figure in the project's style and return every text that was drawn with its box in pixels."""

    def find(figure: Figure) -> list[tuple[str, Any]]:
        found = []
        original = Text.draw

        def draw_and_note(self: Text, renderer: Any, *args: Any, **kwargs: Any) -> None:
            if self.get_visible() and self.get_text().strip():
                found.append((self.get_text(), self.get_window_extent(renderer)))
            original(self, renderer, *args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(Text, "draw", draw_and_note)
            figure.canvas.draw()
        return found

    return find


@pytest.fixture
def assert_legible(texts_drawn: Callable[[Figure], list[tuple[str, Any]]]) -> Callable[[Figure], None]:
    """Hold that no text is cut off at the figure's edge and no two texts overlap."""

    def check(figure: Figure) -> None:
        texts = texts_drawn(figure)
        page = figure.bbox
        cut = [t for t, b in texts if b.x0 < 0 or b.y0 < 0 or b.x1 > page.x1 or b.y1 > page.y1]
        boxes = np.array([[b.x0 + 1, b.x1 - 1, b.y0 + 1, b.y1 - 1] for _, b in texts])
        x0, x1, y0, y1 = boxes.T
        meet = (x0[:, None] < x1) & (x0 < x1[:, None]) & (y0[:, None] < y1) & (y0 < y1[:, None])
        pairs = [(texts[i][0], texts[j][0]) for i, j in np.argwhere(np.triu(meet, 1))]
        assert (cut, pairs) == ([], [])

    return check


@pytest.fixture
def in_style() -> Iterator[None]:
    """Draw as the report draws."""
    with styled():
        yield

"""One step of training: forward and backward passes, the update, and all that is carried from step to step."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oba import ranks, registry
from oba.machine import RuntimeConfig
from oba.models.weight_masks import Masks, apply_masks
from oba.recipes import DistillationConfig, FinetuneConfig, TrainConfig
from oba.training.evaluation import autocast
from oba.training.optimizers import make_optimizer, optimizer_state, restore_optimizer
from oba.training.parallel import average_statistics, distribute, fractions, kept_back
from oba.training.schedules import learning_rate
from oba.training.state import TrainState


class Learner:
    """A net with its optimizer, and what a recipe adds to them: average, teacher, mixing, scaled losses.

    Attributes:
        model: The net.
    """

    def __init__(
        self,
        model: nn.Module,
        config: TrainConfig,
        runtime: RuntimeConfig,
        *,
        device: torch.device,
        classes: int,
        masks: Masks | None = None,
        teacher: nn.Module | None = None,
    ) -> None:
        """Move the net to its device and prepare the first step.

        Args:
            model: The net; changed in place.
            config: The recipe.
            runtime: Precision, memory format, and whether passes are compiled.
            device: Where to train.
            classes: Number of classes, for mixed targets.
            masks: What is kept of the net's weights; the others are set to 0 and stay there.
            teacher: The net whose outputs are learned, too, if the recipe distils.
        """
        self.model, self._config, self._precision, self._device = model, config, runtime.precision, device
        formats = [torch.channels_last] if _channels_last(runtime, device) else []
        for net in filter(None, (model, teacher)):
            net.to(device)
            for layout in formats:
                net.to(memory_format=layout)
        if runtime.sync_batchnorm and ranks.count() > 1:
            registry.entry("ingredient", "synchronized")(model)
        kept = {name: mask.to(device) for name, mask in (masks or {}).items()}
        apply_masks(model, kept)
        self._gone = [(model.get_parameter(name), ~mask) for name, mask in kept.items()]
        self._optimizer = make_optimizer(model, config)
        self._scaler = torch.amp.GradScaler(device.type, enabled=runtime.precision == "fp16")
        needed = {name: registry.entry("ingredient", name) for name in config.ingredients}
        self._average = needed["average"](model, config.ema) if "average" in needed else None
        self._mixer = needed["mixing"](config, classes) if "mixing" in needed else None
        self._teacher = teacher.eval() if teacher is not None else None
        self._distillation = config.distillation if isinstance(config, FinetuneConfig) else None
        self._shared = distribute(model, device)
        self._forward: Any = torch.compile(self._shared) if runtime.compile else self._shared

    @property
    def counted(self) -> nn.Module:
        """The net whose weights count: the average where the recipe asks for one."""
        return self.model if self._average is None else self._average.module

    def step(
        self, inputs: Tensor, targets: Tensor, *, whole: int, epochs_done: float, number: int, seed: int
    ) -> tuple[Tensor, Tensor]:
        """Learn one batch, of which every rank has a part.

        Args:
            inputs: (B, C, H, W), on the device; may be overwritten.
            targets: (B,) int64.
            whole: Images of the batch on all ranks together.
            epochs_done: Epochs since the start, at the middle of this step.
            number: Of this step, 1 for the first of the training.
            seed: Of how the batch is mixed.

        Returns:
            This rank's part of the loss, and its number of images whose largest output was their class; scalars that
            were not waited for.
        """
        lr = learning_rate(self._config, epochs_done)
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        wanted = targets
        if self._mixer is not None:
            inputs, wanted = self._mixer(inputs, targets, seed)
        self._optimizer.zero_grad()
        total, correct = torch.zeros((), device=self._device), torch.zeros((), dtype=torch.int64, device=self._device)
        for part in _parts(len(targets), self._config.accumulate):
            share = (part.stop - part.start) / whole
            with kept_back(self._shared, part.stop < len(targets)):
                with autocast(self._device, self._precision):
                    logits = self._forward(inputs[part])
                loss = self._loss(logits.float(), inputs[part], wanted[part]) * share
                # Ranks average their gradients, and the batch's is the sum.
                self._scaler.scale(loss * ranks.count()).backward()
            total += loss.detach()
            correct += (logits.detach().argmax(dim=1) == targets[part]).sum()
        self._update(number)
        return total, correct

    def end_epoch(self) -> None:
        """Let all ranks have the same statistics of norms."""
        for net in self._nets():
            average_statistics(net)

    def save(self, state: TrainState) -> None:
        """Put what the next step needs into a state."""
        state.weights = self.model.state_dict()
        state.optimizer = optimizer_state(self.model, self._optimizer)
        state.average = {} if self._average is None else self._average.module.state_dict()
        state.scaler = dict(self._scaler.state_dict())

    def own_statistics(self) -> dict[str, Tensor]:
        """Return what is this rank's alone within an epoch: the tensors themselves, by name; nothing of a single rank.

        Returns:
            Running statistics of the norms of the net and of its average.
        """
        if ranks.count() == 1:
            return {}
        return {
            f"statistics/{number}/{name}": buffer
            for number, net in enumerate(self._nets())
            for name, buffer in fractions(net).items()
        }

    def restore(self, state: TrainState) -> None:
        """Go on from a state that :meth:`save` filled, with this rank's statistics; an empty one changes nothing."""
        if not state.weights:
            return
        self.model.load_state_dict(state.weights)
        restore_optimizer(self.model, self._optimizer, state.optimizer)
        if self._average is not None:
            self._average.module.load_state_dict(state.average)
        self._scaler.load_state_dict(state.scaler)
        if state.part is not None:
            for name, buffer in self.own_statistics().items():
                buffer.copy_(state.part.own[ranks.rank()][name])

    def _nets(self) -> list[nn.Module]:
        """Return the net and its average, if there is one, in one order on all ranks."""
        return list(dict.fromkeys((self.model, self.counted)))

    def _loss(self, logits: Tensor, inputs: Tensor, wanted: Tensor) -> Tensor:
        """Return the mean loss of some images; mixed targets are smoothed already."""
        smoothing = self._config.label_smoothing if wanted.dim() == 1 else 0.0
        loss = F.cross_entropy(logits, wanted, label_smoothing=smoothing)
        if self._teacher is None or self._distillation is None:
            return loss
        with torch.no_grad(), autocast(self._device, self._precision):
            taught = self._teacher(inputs).float()
        return distilled(loss, logits, taught, self._distillation)

    def _update(self, number: int) -> None:
        """Change the weights by the gradients that have been added up."""
        self._scaler.unscale_(self._optimizer)
        for weight, gone in self._gone:
            if weight.grad is not None:
                weight.grad.masked_fill_(gone, 0.0)
        if self._config.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self._config.clip_norm)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        if self._average is not None:
            self._average.update(self.model, step=number)


def distilled(loss: Tensor, logits: Tensor, taught: Tensor, config: DistillationConfig) -> Tensor:
    r"""Return a loss of which a part is what the teacher says.

    .. math:: (1 - w)\, L + w\, T^2\, \mathrm{KL}(\mathrm{softmax}(t / T) \,\|\, \mathrm{softmax}(z / T))

    (Hinton et al., 2015, section 2: the factor T² keeps the gradients' size).

    Args:
        loss: L, of the labels.
        logits: z, shape (B, classes).
        taught: The teacher's logits t, in the same shape.
        config: Weight w and temperature T.

    Returns:
        The loss, a scalar.
    """
    heat = config.temperature
    soft = (logits / heat).log_softmax(dim=1), (taught / heat).log_softmax(dim=1)
    divergence = F.kl_div(*soft, reduction="batchmean", log_target=True)
    return (1 - config.weight) * loss + config.weight * heat**2 * divergence


def _channels_last(runtime: RuntimeConfig, device: torch.device) -> bool:
    # Not by itself on a CPU, where this layout made torch 2.14 write past its buffers in small nets.
    return runtime.memory_format == "channels-last" or (runtime.memory_format == "auto" and device.type == "cuda")


def _parts(images: int, parts: int) -> list[slice]:
    """Divide a batch into parts of nearly the same size, none of a single image, which batch norm cannot take."""
    parts = max(1, min(parts, images // 2))
    edges = [images * part // parts for part in range(parts + 1)]
    return [slice(start, stop) for start, stop in pairwise(edges)]

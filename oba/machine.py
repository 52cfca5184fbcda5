"""The sections of a study that say on what its stages run; :mod:`oba.config` has the whole study."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from oba.section import Section


class DeviceConfig(Section):
    """On what a stage runs."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes a GPU where there is one."""
    deterministic: bool = True
    """Whether kernels are chosen that are bitwise reproducible; latency is measured without."""


class RuntimeConfig(DeviceConfig):
    """On what the stages run. Part of every result's provenance; all but the first two keys are of training alone."""

    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of training: `bf16` and `fp16` are autocast, the latter with scaled losses; weights, scores and
    reported accuracies stay in fp32."""
    tf32: bool = True
    """Whether a GPU may round the factors of fp32 products to ten bits while it trains."""
    memory_format: Literal["auto", "contiguous", "channels-last"] = "auto"
    """Layout of images and convolutions; `auto` is `channels-last` on a GPU."""
    compile: bool = False
    """Whether the training step's forward and backward passes are compiled (`torch.compile`): faster after minutes."""
    sync_batchnorm: bool = False
    """Whether batch norms take their statistics over the batch of all GPUs of a job, while they train."""

    @model_validator(mode="after")
    def _synchronises_gpus(self) -> Self:
        if self.sync_batchnorm and self.device == "cpu":
            raise ValueError("sync_batchnorm is true, but device is 'cpu'; allowed on GPUs")
        return self


class ThreadsConfig(Section):
    """CPU threads per job. Results repeat bit for bit only with the same number."""

    dense: Annotated[int, Field(ge=1)] = 1
    """Threads of the dense training."""
    prune: Annotated[int, Field(ge=1)] = 1
    """Threads of scoring and pruning."""
    finetune: Annotated[int, Field(ge=1)] = 1
    """Threads of fine-tuning and of the controls."""
    evaluate: Annotated[int, Field(ge=1)] = 1
    """Threads of evaluation and of the latency measured there."""


class GpusConfig(Section):
    """GPUs per job. Results repeat bit for bit only with the same number.

    A job with several runs as one process for each, which divide its images among them. With `runtime.device: cpu` as
    many processes run on the CPU, each with the job's `threads`.
    """

    dense: Annotated[int, Field(ge=1)] = 1
    """GPUs of the dense training."""
    prune: Annotated[int, Field(ge=1)] = 1
    """GPUs of scoring and pruning."""
    finetune: Annotated[int, Field(ge=1)] = 1
    """GPUs of fine-tuning and of the controls."""
    evaluate: Annotated[int, Field(ge=1)] = 1
    """GPUs of evaluation; latency is measured on the first."""

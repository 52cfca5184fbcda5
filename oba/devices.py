"""Whether the GPUs that a study asks for are there: on this machine, or on the nodes of a cluster."""

from __future__ import annotations

from oba.errors import ConfigError
from oba.slurm import gpus_per_node
from oba.training.slots import too_few, visible_gpus


def check_device(device: str, local: bool) -> None:
    """Refuse a device that jobs would not find.

    Args:
        device: ``cpu``, ``cuda`` or ``auto``.
        local: Whether jobs run on this machine, and not on the nodes of a cluster.

    Raises:
        ConfigError: If ``cuda`` is asked for on a machine without a GPU, or a cluster without any is asked for one.
    """
    if local and device == "cuda" and not visible_gpus():
        raise ConfigError(
            "runtime.device: 'cuda', but this machine shows no NVIDIA GPU; allowed: 'auto', 'cpu', or jobs on a cluster"
        )
    if not local and device != "cpu" and gpus_per_node() == 0:
        raise ConfigError(
            f"runtime.device: {device!r}, for which each job that uses a net asks SLURM for a GPU, but `sinfo -o %G` "
            "lists none on this cluster; allowed: 'cpu'"
        )


def check_gpus(count: int, device: str, local: bool) -> None:
    """Refuse more GPUs per job than one machine or node has.

    Args:
        count: How many a job wants.
        device: ``cpu``, ``cuda`` or ``auto``.
        local: Whether jobs run on this machine, and not on the nodes of a cluster.

    Raises:
        ConfigError: If there are fewer; one that is missing is left to :func:`check_device`.
    """
    if device == "cpu":
        return
    if local and count > max(visible := visible_gpus(), 1):
        raise ConfigError(f"{count}, but this machine shows {too_few(visible)}, or jobs on a cluster")
    if not local and 0 < (most := gpus_per_node() or 0) < count:
        raise ConfigError(f"{count}, but no node of this cluster has more than {too_few(most)}")

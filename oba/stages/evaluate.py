"""``evaluate``: read the test images, once per net, and time the net beside its dense architecture."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from oba.config import AugmentConfig
from oba.files import read_json, write_json
from oba.sections import EvaluateSections
from oba.stages.job import Job, label_of


def perform(job: Job[EvaluateSections]) -> dict[str, Any]:
    """Write the net's accuracy on the test images, its cost and its latency."""
    from oba.models import build_model
    from oba.pruning.cost import measure
    from oba.pruning.replay import load_pruned, read_plan
    from oba.stages.start import device_of, load_data
    from oba.training.evaluation import evaluate
    from oba.training.latency import compare_latency

    wanted, device = job.sections.evaluation, device_of(job)
    bundle = load_data(job, AugmentConfig(), device)
    model = load_pruned(job.directory).to(device)
    card, _ = read_plan(job.directory)
    dense = build_model(card.name, num_classes=card.num_classes, input_size=card.input_size).to(device)
    test = evaluate(model, bundle.test, batch_size=wanted.batch_size, device=device, label=label_of(job))
    cost, dense_cost = measure(model, card.input_size), measure(dense, card.input_size)
    latency = compare_latency(
        model, dense, card.input_size, batch=wanted.latency_batch, runs=wanted.latency_runs, device=device
    )
    result = {"test": asdict(test), "cost": asdict(cost), "macs_kept": cost.macs / dense_cost.macs}
    result |= {"parameters_kept": cost.parameters / dense_cost.parameters}
    timed = asdict(latency)
    timed["dense_median_ms"] = timed.pop("reference_median_ms")
    result |= {"latency": timed, "device": str(device), "threads": job.sections.threads}
    write_json(job.directory / "evaluation.json", result)
    job.run.metrics(_shown(result))
    if job.at.variant == "finetuned":
        # A chain's chart begins with the dense net, of which nothing is removed.
        job.run.chain_metrics(_shown(read_json(job.inputs["dense"][0])), step=0)
        job.run.chain_metrics(_shown(result), step=round(100 * (1 - float(job.at.keep))))
    job.run.artifact(job.directory / "evaluation.json")
    return {"threads": job.sections.threads, "device": str(device)}


def _shown(result: dict[str, Any]) -> dict[str, float]:
    """Return what MLflow charts of an evaluation."""
    kept = {name: result[name] for name in ("macs_kept", "parameters_kept")}
    latency = {"latency_ms": result["latency"]["median_ms"], "speedup": result["latency"]["speedup"]}
    return {"test_top1": result["test"]["top1"], "test_loss": result["test"]["loss"]} | kept | latency

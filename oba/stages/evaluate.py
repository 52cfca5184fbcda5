"""``evaluate``: read the test images, once per net, and time the net beside its dense architecture."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from oba import ranks
from oba.datasets import AugmentConfig
from oba.files import read_record, write_record
from oba.models import build_model
from oba.pruning.cost import measure
from oba.pruning.replay import load_masked, read_plan
from oba.pruning.weights.prunable import count_weights
from oba.records import Accuracy, Cost, Evaluation, Timing
from oba.sections import EvaluateSections
from oba.stages.job import Job, label_of
from oba.stages.start import device_of, load_data
from oba.training.evaluation import evaluate, frequent_errors
from oba.training.latency import compare_latency


def perform(job: Job[EvaluateSections]) -> dict[str, Any]:
    """Write the net's accuracy on the test images, its cost and its latency."""
    wanted, device = job.sections.evaluation, device_of(job)
    bundle = load_data(job, AugmentConfig(), device)
    model, masks = load_masked(job.directory)
    model.to(device)
    card, _ = read_plan(job.directory)
    dense = build_model(card.name, num_classes=card.num_classes, input_size=card.input_size).to(device)
    test = evaluate(model, bundle.test, batch_size=wanted.batch_size, device=device, label=label_of(job))
    if not ranks.is_main():
        return {}  # and wait, so that nothing disturbs the clock
    cost, dense_cost = measure(model, card.input_size), measure(dense, card.input_size)
    latency = compare_latency(
        model, dense, card.input_size, batch=wanted.latency_batch, runs=wanted.latency_runs, device=device
    )
    timing = asdict(latency)
    timing["dense_median_ms"] = timing.pop("reference_median_ms")
    evaluation = Evaluation(
        test=Accuracy(**test.figures()),
        class_images=test.confusion.sum(1).tolist(),
        class_correct=test.confusion.diagonal().tolist(),
        confusions=frequent_errors(test.confusion),
        cost=Cost(**asdict(cost)),
        macs_kept=cost.macs / dense_cost.macs,
        parameters_kept=cost.parameters / dense_cost.parameters,
        weights=count_weights(masks) if masks else None,
        latency=Timing(**timing),
        device=str(device),
        threads=job.sections.threads,
    )
    write_record(job.directory / "evaluation.json", evaluation)
    job.run.metrics(_charted(evaluation) | _densities(evaluation))
    if job.at.variant == "finetuned":
        # A chain's chart begins with the dense net, of which nothing is removed.
        dense = _charted(read_record(job.inputs["dense"][0], Evaluation))
        job.run.chain_metrics(dense | ({"weights_kept": 1.0} if evaluation.weights else {}), step=0)
        job.run.chain_metrics(_charted(evaluation), step=round(100 * (1 - float(job.at.keep))))
    job.run.artifact(job.directory / "evaluation.json")
    return {"threads": job.sections.threads, "device": str(device)}


def _charted(evaluation: Evaluation) -> dict[str, float]:
    """Return what MLflow charts of an evaluation."""
    weights = evaluation.weights
    return {
        "test_top1": evaluation.test.top1,
        "test_loss": evaluation.test.loss,
        "macs_kept": evaluation.macs_kept,
        "parameters_kept": evaluation.parameters_kept,
        "latency_ms": evaluation.latency.median_ms,
        "speedup": evaluation.latency.speedup,
    } | ({"weights_kept": weights.fraction} if weights else {})


def _densities(evaluation: Evaluation) -> dict[str, float]:
    """Return the fraction of its weights that each layer keeps, where single weights went."""
    weights = evaluation.weights
    return {f"density/{name}": kept / weights.dense[name] for name, kept in weights.kept.items()} if weights else {}

"""``evaluate``: read the test images, once per net, and time the net beside its dense architecture."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from oba.config import AugmentConfig, EvaluateSections, Study
from oba.files import write_json
from oba.layout import NET_FILES, Cell, Layout
from oba.stages.job import Job, execute


def run(study: Study, cell: Cell) -> None:
    """Run the stage for one net."""
    layout = Layout(study.experiment)
    net = layout.net(cell)
    inputs = [layout.data / "data.json", layout.split(cell.seed), *(net / name for name in NET_FILES[:2])]
    record = net / "evaluation-run.json"
    execute("evaluate", study, cell, perform, record=record, inputs=inputs, outputs=[net / "evaluation.json"])


def perform(job: Job[EvaluateSections]) -> dict[str, Any]:
    """Write the net's accuracy on the test images, its cost and its latency."""
    from oba.models import build_model
    from oba.pruning.cost import measure
    from oba.pruning.replay import load_pruned, read_plan
    from oba.stages.nets import device_of, load_data
    from oba.training import compare_latency, evaluate

    wanted, device = job.sections.evaluation, device_of(job)
    bundle = load_data(job, AugmentConfig(), device)
    model = load_pruned(job.directory).to(device)
    card, _ = read_plan(job.directory)
    dense = build_model(card.name, num_classes=card.num_classes, input_size=card.input_size).to(device)
    test = evaluate(model, bundle.test, batch_size=wanted.batch_size, device=device)
    cost, dense_cost = measure(model, card.input_size), measure(dense, card.input_size)
    latency = compare_latency(
        model, dense, card.input_size, batch=wanted.latency_batch, runs=wanted.latency_runs, device=device
    )
    result = {"test": asdict(test), "cost": asdict(cost), "macs_kept": cost.macs / dense_cost.macs}
    result |= {"parameters_kept": cost.parameters / dense_cost.parameters}
    result |= {"latency": asdict(latency), "device": str(device), "threads": job.sections.threads}
    write_json(job.directory / "evaluation.json", result)
    shown = {"test_top1": test.top1, "test_loss": test.loss, "macs_kept": result["macs_kept"]}
    shown |= {"parameters_kept": result["parameters_kept"], "latency_ms": latency.median_ms, "speedup": latency.speedup}
    job.run.metrics(shown)
    if job.cell.variant == "finetuned":
        job.run.chain_metrics(shown, step=round(float(job.cell.keep) * 100))
    job.run.artifact(job.directory / "evaluation.json")
    return {"threads": job.sections.threads, "device": str(device)}

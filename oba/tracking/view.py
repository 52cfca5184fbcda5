"""The saved view of an experiment's runs: accuracy against what was removed, a line for each chain.

MLflow's page of runs keeps its state in its browser. A state that people save under *Views* is a tag of the experiment,
which is written here, so that everybody finds it.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from typing import Any

from oba.tracking.links import VIEW

_CHARTS = ("test_top1", "test_loss", "macs_kept", "parameters_kept", "weights_kept", "latency_ms", "speedup")


def saved_view() -> dict[str, str]:
    """Return the tag of the view.

    Returns:
        One tag of an experiment: the same for all, since MLflow hides charts that have no points.
    """
    saved = {"name": "Accuracy against MACs removed", "createdAt": 0, "updatedAt": 0, "state": _packed(_state())}
    return {f"mlflow.sharedViewState.{VIEW}": json.dumps(saved)}


def _state() -> dict[str, Any]:
    """Return the state of MLflow's page of runs that draws all chains."""
    section = {"name": "Step: % removed", "display": True, "isReordered": False}
    sections = [section | {"uuid": VIEW, "deleted": False, "isGenerated": False}]
    line = {"type": "LINE", "runsCountToCompare": 100, "metricSectionId": VIEW, "deleted": False, "isGenerated": False}
    line |= {"lineSmoothness": 0, "xAxisScaleType": "linear", "scaleType": "linear", "range": {}, "xAxisKey": "step"}
    line |= {"selectedXAxisMetricKey": "", "yAxisKey": "metric", "yAxisExpressions": [], "ignoreOutliers": False}
    line |= {"useGlobalXaxisKey": True, "useGlobalLineSmoothing": True}
    charts = [
        line | {"uuid": f"{VIEW}-{key}", "displayName": key, "metricKey": key, "selectedMetricKeys": [key]}
        for key in _CHARTS
    ]
    return {
        "searchFilter": 'tags.stage = "chain" and tags.superseded_by IS NULL',
        "orderByKey": "tags.`order`",
        "orderByAsc": True,
        "runsHiddenMode": "SHOWALL",
        "hideEmptyCharts": True,
        "compareRunCharts": charts,
        "compareRunSections": sections,
    }


def _packed(state: Mapping[str, Any]) -> str:
    """Return a state as MLflow's page packs it: a tag has 5000 characters."""
    return "deflate;" + base64.b64encode(zlib.compress(json.dumps(state).encode(), 9)).decode()

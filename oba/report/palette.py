"""The colours of methods, by their places in the study: in pictures, on the page and in MLflow.

Apart from :mod:`oba.report.style`, because every job names its colour and none should import matplotlib for it.
"""

from __future__ import annotations

METHOD_COLORS = ("#0072b2", "#d55e00", "#009e73", "#aa4499", "#b58900", "#2897c3", "#5d4a9c", "#7a4b2a")

"""Snakemake's plugin for ``--logger oba``, found by its name: what a run says on the terminal."""

from oba.status.handler import LogHandler

__all__ = ["LogHandler"]

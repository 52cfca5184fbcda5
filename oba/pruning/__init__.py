"""Pruning: what may go, what it saves, what goes, and the smaller net.

The dependency graph is computed once per architecture (:mod:`oba.pruning.dependencies`); everything
after that works from its groups and a :class:`oba.pruning.plan.Plan` in the dense net's coordinates.
"""

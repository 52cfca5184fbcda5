"""Training: the loop and its resumable state, evaluation, latency.

Stages import the module they use, so that an edit of one (say :mod:`oba.training.latency`) reruns only what
depends on it.
"""

"""Scores: how important each parameter or structure is; knows nothing about what is then removed."""

from oba.importance.parameters import parameter_scores
from oba.importance.structures import structure_model, structure_scores

__all__ = ["parameter_scores", "structure_model", "structure_scores"]

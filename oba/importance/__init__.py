"""Scores: how important each parameter or structure is; knows nothing about what is then removed."""

from oba.importance.parameters import parameter_scores
from oba.importance.score import score_structures
from oba.importance.scores import StructureScores

__all__ = ["StructureScores", "parameter_scores", "score_structures"]

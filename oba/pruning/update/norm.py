"""Norm statistics measured again ``norm``: weights stay, batch norms see what now reaches them."""

from __future__ import annotations

from oba.options import Options
from oba.pruning.cut import Cut, Images, Update
from oba.pruning.statistics import recalibrate_norms


class Norm(Update[Options]):
    """Replaces the statistics of all batch norms by those of the calibration images."""

    @classmethod
    def for_weights(cls) -> bool:
        """Nothing here asks which structures went."""
        return True

    def adjust(self, cut: Cut, images: Images) -> None:
        """Recalibrate the norms of the pruned net."""
        recalibrate_norms(cut.after, images)


UPDATE = Norm

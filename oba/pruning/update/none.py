"""No update at all ``none``: weights and norm statistics stay those of the net before the cut."""

from __future__ import annotations

from oba.options import Options
from oba.pruning.cut import Cut, Images, Update


class NoUpdate(Update[Options]):
    """Leaves the net as the cut left it."""

    @classmethod
    def for_weights(cls) -> bool:
        """Nothing here asks which structures went."""
        return True

    def adjust(self, cut: Cut, images: Images) -> None:
        """Do nothing."""


UPDATE = NoUpdate

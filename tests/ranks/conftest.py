"""Makes what starts ranks, and nets to score, importable by name."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
for folder in (HERE, HERE.parent / "importance"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

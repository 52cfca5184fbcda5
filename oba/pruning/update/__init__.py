"""How the survivors adjust: one update per file, found by its name (:mod:`oba.pruning.cut` is the interface)."""

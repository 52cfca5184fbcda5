"""How much goes where: one allocation per file, found by its name (:mod:`oba.pruning.problem` is the interface)."""

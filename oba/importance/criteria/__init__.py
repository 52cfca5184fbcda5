"""One criterion per file, found by its file name; :mod:`oba.importance.criterion` says what a file must define."""

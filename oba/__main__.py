"""``python -m oba``."""

from oba.cli import main

main()

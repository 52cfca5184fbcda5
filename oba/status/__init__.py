"""How far a sweep is: read from files alone (``survey``, ``signs``, ``estimate``), drawn for a terminal (``draw``).

The same words and figures are shown while a sweep runs: ``teller`` takes what Snakemake says of its jobs.
"""

"""On the search path of a Snakemake that `oba run` starts, where Snakemake looks for plugins by their names."""

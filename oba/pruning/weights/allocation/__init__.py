"""How many weights go from which layer: one allocation per file."""

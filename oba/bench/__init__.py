"""Measurements of what things cost; nothing of a study depends on them."""

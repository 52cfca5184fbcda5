"""Exported nets: what a pruned net becomes for those who run it without this project."""

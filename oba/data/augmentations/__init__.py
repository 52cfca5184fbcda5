"""What recipes ask for beyond crops and mirroring: one file each, with ``make``; only jobs that use it depend on it."""

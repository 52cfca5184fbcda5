"""One thin module per stage of the DAG: read inputs, call the rooms below, write outputs atomically.

The way of the data: ``prepare`` → ``split`` → ``dense`` → for each level (``prune`` → ``finetune`` →
``evaluate``) → ``collect`` → ``report``; ``trace`` looks at each architecture once, and ``scratch`` is
the optional control beside ``finetune``.
"""

"""Pruning single weights: which may go, how many go where, and the rounds of a level."""

"""A stored net looked at more closely than its study asks: what it could still lose, and where."""

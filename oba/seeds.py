"""Seeds derived from one another, so that whatever is drawn depends on nothing that was drawn before."""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Derive an independent seed: the first 63 bits of the SHA-256 of seed and purpose, joined by slashes.

    Args:
        seed: The seed to start from.
        purpose: What the derived seed is for, such as ``"images", 3``.

    Returns:
        A number below 2**63, the same on every machine and version.
    """
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1

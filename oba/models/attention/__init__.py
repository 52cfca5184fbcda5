"""Attention of any widths: one module in the place of the libraries' own.

A pruned attention has fewer heads, and may have fewer dimensions in which queries meet keys than values have. PyTorch's
``nn.MultiheadAttention`` allows neither, and hides its projections in bare parameters; timm's modules take dimensions
for equal. :func:`open_attention` puts an :class:`Attention` in their place that computes the same, with projections
that are called as layers.
"""

from oba.models.attention.module import Attention
from oba.models.attention.opening import open_attention

__all__ = ["Attention", "open_attention"]

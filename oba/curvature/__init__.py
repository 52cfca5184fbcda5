"""Pure differentiation: tangents, curvature adjoints and exact directional derivatives; knows nothing of pruning."""

from oba.curvature.adjoints import channel_curvature, curvature_adjoints
from oba.curvature.arithmetic import Arithmetic
from oba.curvature.derivatives import check_differentiable, differentiable_attention, nested_gradient
from oba.curvature.directions import directed_parameters
from oba.curvature.exact import channel_self_product, self_product
from oba.curvature.first import channel_gradients
from oba.curvature.norms import ConstantNorms
from oba.curvature.units import is_unit, layer_parameters, parameter_layers
from oba.curvature.watch import Watch

__all__ = [
    "Arithmetic",
    "ConstantNorms",
    "Watch",
    "channel_curvature",
    "channel_gradients",
    "channel_self_product",
    "check_differentiable",
    "curvature_adjoints",
    "differentiable_attention",
    "directed_parameters",
    "is_unit",
    "layer_parameters",
    "nested_gradient",
    "parameter_layers",
    "self_product",
]

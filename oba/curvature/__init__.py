"""Pure differentiation: gradient sums, curvature adjoints and exact directional derivatives; unaware of pruning."""

from oba.curvature.adjoints import channel_curvature, curvature_adjoints
from oba.curvature.arithmetic import Arithmetic, differentiable_attention
from oba.curvature.checks import check_differentiable
from oba.curvature.directions import directed_parameters
from oba.curvature.frozen_norms import ConstantNorms
from oba.curvature.frozen_units import is_unit
from oba.curvature.gradient_sums import channel_gradients
from oba.curvature.hessian_products import channel_self_product, self_product
from oba.curvature.layers import layer_parameters, parameter_layers
from oba.curvature.nested_gradients import nested_gradient
from oba.curvature.running_modules import Watch

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

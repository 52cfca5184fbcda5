"""A slow, independent oracle of Algorithm 1: linearise everything that is no product, then differentiate exactly.

The network runs under a function mode that replaces each frozen operation f(x) by f(x0) + J(x0)(x - x0), the loss by
its linearisation. What is left is a polynomial in the parameters; its exact Hessian-vector product gives the scores.
Functions are told apart by name, from lists written for the zoo alone; an unknown name is an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


def _names(text: str) -> set[str]:
    return set(text.split())


PRODUCTS = _names("linear conv1d conv2d mul multiply mul_ __imul__ matmul __matmul__ bmm einsum baddbmm addcmul")
LINEAR = _names("""
    add __add__ __iadd__ add_ sub __sub__ view reshape flatten cat chunk split unbind transpose permute expand unsqueeze
    squeeze unflatten contiguous mean sum pad __getitem__ clone adaptive_avg_pool2d dropout mT T detach to
""")
NO_TENSOR = _names("__get__ size dim is_floating_point numel _set_grad_enabled is_nested is_contiguous")
FROZEN = _names("""
    relu relu_ leaky_relu hardtanh hardswish silu gelu tanh sigmoid softmax batch_norm layer_norm group_norm
    instance_norm max_pool2d boolean_dispatch std div __truediv__ exp
""")


def linearise(function: Callable[..., Tensor], tensors: list[Tensor]) -> Tensor:
    """Return f(x0) + J(x0)(x - x0) with x0 the present value of the tensors."""
    origin = tuple(t.detach() for t in tensors)
    step = tuple(t - o for t, o in zip(tensors, origin, strict=True))
    value, tangent = torch.func.jvp(function, origin, step)
    return value.detach() + tangent


class LinearisingMode(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = func.__name__
        if name == "scaled_dot_product_attention":
            with self:
                return attention(*args, **kwargs)
        if name not in FROZEN:
            assert name in PRODUCTS | LINEAR | NO_TENSOR, f"the oracle does not know {name!r}"
            return func(*args, **kwargs)
        kwargs.pop("inplace", None)
        func = torch.relu if name == "relu_" else func
        arguments = list(args)
        if name == "leaky_relu":
            arguments = arguments[:2]
        if name == "batch_norm" and kwargs.get("training"):
            arguments[1:3] = None, None
        every = [*((arguments, i) for i in range(len(arguments))), *((kwargs, key) for key in kwargs)]
        places = [(box, key) for box, key in every if isinstance(box[key], Tensor) and box[key].requires_grad]
        if not places:
            return func(*arguments, **kwargs)

        def function(*values: Tensor) -> Tensor:
            for (box, key), value in zip(places, values, strict=True):
                box[key] = value
            return func(*arguments, **kwargs)

        return linearise(function, [box[key] for box, key in places])


def attention(q: Tensor, k: Tensor, v: Tensor, dropout_p: float = 0.0, **unused: Any) -> Tensor:
    assert dropout_p == 0
    assert all(value is None or value is False for value in unused.values())
    return torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1]), -1) @ v


def multi_head(module: nn.MultiheadAttention, q: Tensor, k: Tensor, v: Tensor, **_: Any) -> tuple[Tensor, None]:
    """``nn.MultiheadAttention`` for batch_first self-attention, head by head."""
    size, width = module.embed_dim, module.head_dim
    if module.in_proj_weight is None:
        weights = [module.q_proj_weight, module.k_proj_weight, module.v_proj_weight]
    else:
        weights = [module.in_proj_weight[i * size : (i + 1) * size] for i in range(3)]
    biases = [module.in_proj_bias[i * size : (i + 1) * size] for i in range(3)]
    q, k, v = (x.matmul(w.transpose(0, 1)) + b for x, w, b in zip((q, k, v), weights, biases, strict=True))
    heads = [attention(*(x[..., h * width : (h + 1) * width] for x in (q, k, v))) for h in range(module.num_heads)]
    return module.out_proj(torch.cat(heads, -1)), None


def oracle_adjoints(
    model: nn.Module,
    inputs: Tensor,
    loss: Callable[[Tensor], Tensor],
    names: Iterable[str],
    units: tuple[type[nn.Module], ...] = (),
) -> dict[str, Tensor]:
    """Return λ of the named parameters. Changes the model's forward methods and requires_grad: give it a copy."""
    mode = LinearisingMode()
    for module in model.modules():
        if isinstance(module, units):
            module.forward = _unit(mode, module.forward)
        if isinstance(module, nn.MultiheadAttention):
            module.forward = lambda *args, module=module, **kwargs: multi_head(module, *args, **kwargs)
    parameters = dict(model.named_parameters())
    for parameter in parameters.values():
        parameter.requires_grad_(False)
    moving = [parameters[name].requires_grad_() for name in names]
    with mode:
        outputs = model(inputs)
    origin = outputs.detach().requires_grad_()
    (slope,) = torch.autograd.grad(loss(origin), origin)
    gradient = torch.autograd.grad((outputs * slope).sum(), moving, create_graph=True, materialize_grads=True)
    form = sum((g * p.detach()).sum() for g, p in zip(gradient, moving, strict=True))
    assert isinstance(form, Tensor)
    adjoints = torch.autograd.grad(form, moving, materialize_grads=True)
    return dict(zip(names, adjoints, strict=True))


def _unit(mode: LinearisingMode, forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Linearise a module as a whole: inside it, the mode is off."""

    def run(x: Tensor) -> Tensor:
        with torch._C.DisableTorchFunction():
            return linearise(forward, [x])

    return run

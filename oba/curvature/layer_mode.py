"""The function mode that stands between a model and PyTorch: leaves in the place of parameters, layers as nodes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge
from torch.overrides import TorchFunctionMode

from oba.curvature.channel_sums import Sums
from oba.curvature.checks import check_visible
from oba.curvature.frozen_norms import FrozenNorm, frozen_norm, is_computed
from oba.curvature.linear_maps import LinearMap, linear_map_of
from oba.curvature.products import COMPOSITES, LAYERS
from oba.curvature.running_modules import Watch


class LayerMode(TorchFunctionMode, ABC):
    """Run a forward pass on leaves in the place of parameters, see every call of a layer, and differentiate the loss.

    Attributes:
        doing: The forward pass in words, for error messages.
        leaves: By name, the leaf of the graph that takes the place of each parameter.
        sums: What the layers' nodes add to.
        weights: Names of the weights whose layers became nodes.
    """

    doing = "the forward pass"

    def __init__(self, parameters: Mapping[str, nn.Parameter], sums: Sums, watch: Watch) -> None:
        """Prepare one forward pass, inside :meth:`level`, that replaces some parameters."""
        super().__init__()
        self.leaves = {name: parameter.detach().requires_grad_() for name, parameter in parameters.items()}
        self.sums = sums
        self.weights: set[str] = set()
        self._watch = watch
        # A gradient that reaches one of these has found a use that the mode did not see.
        self._visible = {name: parameter for name, parameter in parameters.items() if parameter.requires_grad}
        stand_ins = {name: self.stand_in(leaf) for name, leaf in self.leaves.items()}
        self._stand_ins = {id(parameter): stand_ins[name] for name, parameter in parameters.items()}
        self._names = {id(tensor): name for name, tensor in stand_ins.items()}

    @staticmethod
    def level() -> AbstractContextManager[None]:
        """Return the context that the mode lives in."""
        return nullcontext()

    def stand_in(self, leaf: Tensor) -> Tensor:
        """Return what the model's operations are given instead of a parameter."""
        return leaf

    def read(self, outputs: Any) -> Any:
        """Return what the loss is given of the model's outputs."""
        return outputs

    def backward(self, loss: Tensor) -> Sequence[Tensor | None]:
        """Return the derivative with respect to each leaf, None where nothing flows to it but through sums."""
        return self.gradients(loss, list(self.leaves.values()))

    def gradients(
        self,
        value: Tensor,
        wanted: Sequence[Tensor | GradientEdge],
        *,
        retain_graph: bool = False,
        create_graph: bool = False,
    ) -> Sequence[Tensor | None]:
        """Differentiate as ``torch.autograd.grad`` does; raise if a parameter was used out of sight."""
        everything = [*wanted, *self._visible.values()]
        if not everything:
            return []
        found = torch.autograd.grad(
            value, everything, retain_graph=retain_graph or create_graph, create_graph=create_graph, allow_unused=True
        )
        check_visible(self._visible, found[len(wanted) :])
        return found[: len(wanted)]

    def __torch_function__(self, func: Any, types: Any, args: Iterable[Any] = (), kwargs: Any = None) -> Any:
        """Run one operation."""
        arguments = [self._replaced(a) for a in args]
        keywords = {key: self._replaced(a) for key, a in (kwargs or {}).items()}
        self._watch.operation = getattr(func, "__name__", str(func))
        if torch.is_grad_enabled() and keywords.get("out") is None:
            result = self.run(func, arguments, keywords)
        else:
            result = self.plain(func, arguments, keywords)
        self._watch.operation = ""
        return result

    def _replaced(self, argument: Any) -> Any:
        if isinstance(argument, Tensor):
            return self._stand_ins.get(id(argument), argument)
        if type(argument) in (list, tuple):
            return type(argument)(self._replaced(a) for a in argument)
        return argument

    def run(self, func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Run an operation in the graph, parameters already replaced."""
        if func in LAYERS:
            return self._layer(func, *args, **kwargs)
        if func is F.batch_norm:
            return self._batch_norm(args, kwargs)
        if func in COMPOSITES:
            with self:
                return COMPOSITES[func](*args, **kwargs)
        return self.plain(func, args, kwargs)

    def _layer(
        self, func: Any, input: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any, **options: Any
    ) -> Tensor:
        """Make a layer a node if its parameters are used as they are."""
        linear_map = linear_map_of(func, input, *rest, **options)
        name = self.name_of(weight)
        if linear_map is None or not name or (bias is not None and not self.name_of(bias)):
            return self.other_layer(func, [input, weight, bias, *rest], options)
        self.weights.add(name)
        return self.node((name, self.name_of(bias)), linear_map, input)

    def _batch_norm(self, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Take the quick way if statistics are frozen, and scale and shift are parameters as they are."""
        call = frozen_norm(*args, **kwargs)
        output = None
        if call is not None and all(self.name_of(t) or not is_computed(t) for t in call[1].affine):
            output = self.frozen_norm(*call)
        return self.plain(F.batch_norm, args, kwargs) if output is None else output

    def name_of(self, tensor: Tensor | None) -> str:
        """Return the name of the parameter that a tensor stands for, empty for anything else."""
        return self._names.get(id(tensor), "")

    def frozen_norm(self, input: Tensor, norm: FrozenNorm) -> Tensor | None:
        """Run a frozen batch norm; None if it needs the general way, here because its parameters are replaced."""
        return None if self.name_of(norm.weight) or self.name_of(norm.bias) else norm.run(input)

    @abstractmethod
    def node(self, names: tuple[str, str], linear_map: LinearMap, input: Tensor) -> Tensor:
        """Run a layer whose weight and bias are replaced parameters of these names, the latter empty without one."""

    def other_layer(self, func: Any, args: list[Any], options: dict[str, Any]) -> Tensor:
        """Run a layer that is no node: ``args`` are input, weight, bias or None, and further settings."""
        return self.plain(func, args, options)

    def plain(self, func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Run any other operation."""
        return func(*args, **kwargs)

"""The function mode that stands between a model and PyTorch: tensors in the place of parameters, layers as nodes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from oba.curvature.geometry import Geometry, geometry_of
from oba.curvature.norms import FrozenNorm, frozen_norm, is_computed
from oba.curvature.products import COMPOSITES, LAYERS
from oba.curvature.watch import Watch


class LayerMode(TorchFunctionMode, ABC):
    """Run a forward pass with other tensors in the place of parameters, and see every call of a layer.

    Attributes:
        leaves: By name, the tensor that takes the place of each parameter in the graph.
        weights: Names of the weights whose layers became nodes.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        leaves: dict[str, Tensor],
        stand_ins: Mapping[str, Tensor],
        watch: Watch,
    ) -> None:
        """Prepare one forward pass.

        Args:
            parameters: The parameters that are replaced, by name.
            leaves: For each of them a leaf of the graph.
            stand_ins: What the model's operations are given instead: the leaves, or dual tensors of them.
            watch: Is told the names of operations.
        """
        super().__init__()
        self.leaves = leaves
        self.weights: set[str] = set()
        self._watch = watch
        self._stand_ins = {id(parameter): stand_ins[name] for name, parameter in parameters.items()}
        self._names = {id(tensor): name for name, tensor in stand_ins.items()}

    def __torch_function__(self, func: Any, types: Any, args: Iterable[Any] = (), kwargs: Any = None) -> Any:
        """Run one operation.

        Args:
            func: The function that was called.
            types: Types of its tensors; not used.
            args: Its arguments.
            kwargs: Its keyword arguments.

        Returns:
            What ``func`` returns.
        """
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
        """Run an operation in the graph.

        Args:
            func: The function.
            args: Its arguments, parameters replaced.
            kwargs: Its keyword arguments, likewise.

        Returns:
            Its result.
        """
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
        geometry = geometry_of(func, input, *rest, **options)
        name = self.name_of(weight)
        if geometry is None or not name or (bias is not None and not self.name_of(bias)):
            return self.other_layer(func, [input, weight, bias, *rest], options)
        self.weights.add(name)
        return self.node((name, self.name_of(bias)), geometry, input)

    def _batch_norm(self, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Take the quick way if statistics are frozen, and scale and shift are parameters as they are."""
        call = frozen_norm(*args, **kwargs)
        output = None
        if call is not None and all(self.name_of(t) or not is_computed(t) for t in call[1].affine):
            output = self.frozen_norm(*call)
        return self.plain(F.batch_norm, args, kwargs) if output is None else output

    def name_of(self, tensor: Tensor | None) -> str:
        """Return the name of the parameter that a tensor stands for.

        Args:
            tensor: Any tensor, or None.

        Returns:
            The name; empty for anything else.
        """
        return self._names.get(id(tensor), "")

    def frozen_norm(self, input: Tensor, norm: FrozenNorm) -> Tensor | None:
        """Run a batch norm with frozen statistics.

        Args:
            input: Shape (N, channels, ...).
            norm: The norm.

        Returns:
            Its output; None if it needs the general way, here because its parameters are replaced.
        """
        return None if self.name_of(norm.weight) or self.name_of(norm.bias) else norm.run(input)

    @abstractmethod
    def node(self, names: tuple[str, str], geometry: Geometry, input: Tensor) -> Tensor:
        """Run a layer whose weight and bias are replaced parameters.

        Args:
            names: Names of its weight and of its bias, empty without one.
            geometry: How it maps.
            input: Its input.

        Returns:
            Its output.
        """

    def other_layer(self, func: Any, args: list[Any], options: dict[str, Any]) -> Tensor:
        """Run a layer that is no node.

        Args:
            func: The function.
            args: Input, weight, bias or None, and further settings.
            options: Settings by name.

        Returns:
            Its output.
        """
        return self.plain(func, args, options)

    def plain(self, func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Run any other operation.

        Args:
            func: The function.
            args: Its arguments.
            kwargs: Its keyword arguments.

        Returns:
            Its result.
        """
        return func(*args, **kwargs)

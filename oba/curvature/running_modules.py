"""Watch a forward pass: which module is running, inside a frozen unit or not, and what failed where."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import torch
from torch import nn
from torch.autograd.function import BackwardCFunction
from torch.utils.hooks import RemovableHandle

from oba.curvature.frozen_units import is_unit
from oba.errors import ScoreError


class Watch:
    """Follow a model's forward pass by hooks that are gone after the ``with`` block.

    Attributes:
        operation: Name of the last operation, where somebody reports operations; else empty.
    """

    def __init__(self, model: nn.Module) -> None:
        """Prepare to watch.

        Args:
            model: The model whose modules are followed.
        """
        self.operation = ""
        self._names = {module: name for name, module in model.named_modules()}
        self._units = {module for module in self._names if is_unit(module)}
        self._running: list[nn.Module] = []
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        """Set the hooks."""
        for module in self._names:
            self._handles.append(module.register_forward_pre_hook(self._enter))
            self._handles.append(module.register_forward_hook(self._leave))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the hooks away."""
        for handle in self._handles:
            handle.remove()

    def _enter(self, module: nn.Module, _inputs: Any) -> None:
        self._running.append(module)

    def _leave(self, module: nn.Module, _inputs: Any, _output: Any) -> None:
        # Inner modules that left by an exception which the model caught are dropped with this one.
        while self._running.pop() is not module:
            pass

    @property
    def in_unit(self) -> bool:
        """Whether the pass is inside a module that counts as one frozen operation."""
        return any(module in self._units for module in self._running)

    @property
    def place(self) -> str:
        """The innermost running module in words, with its class."""
        if not self._running or not self._names[self._running[-1]]:
            return "the model itself"
        module = self._running[-1]
        return f"module {self._names[module]!r} ({type(module).__name__})"

    @contextmanager
    def explain(self, doing: str) -> Iterator[None]:
        """Turn an error of the operation that runs into one line that names operation and module.

        Args:
            doing: What is attempted, the subject of the message.

        Yields:
            Nothing.

        Raises:
            ScoreError: For any error that an operation raises, except lack of memory.
            OutOfMemoryError: As it was raised.
        """
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, IndexError) as error:
            name = self.operation or _custom_function(error)
            operation = f"operation {name!r} of " if name else ""
            raise ScoreError(f"{doing} failed at {operation}{self.place}: {first_line(error)}") from error


def _custom_function(error: BaseException) -> str:
    """Return the class name of the custom ``autograd.Function`` that raised an error, if one did."""
    trace = error.__traceback__
    while trace is not None:
        for value in trace.tb_frame.f_locals.values():
            if isinstance(value, BackwardCFunction):
                return type(value).__name__.removesuffix("Backward")
        trace = trace.tb_next
    return ""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or the name of its class where there is none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]

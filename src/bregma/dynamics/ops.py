"""Shared by the registered operators: how a tensor becomes a kernel's array, and how an operator is declared.

Every operator is declared with `torch.library`, so that `torch.compile` takes it as one node of its graph. The plain
``define`` and ``impl`` are used and not ``custom_op``, whose first call imports the whole compiler.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bregma.dynamics.kernels import Array


def array(tensor: Tensor) -> Array:
    """The tensor's memory as a C-contiguous numpy array, without a copy where it is contiguous already."""
    return tensor.detach().contiguous().numpy()


def operator(schema: str, run: Callable[..., Any], fake: Callable[..., Any]) -> None:
    """Declare ``bregma::schema`` with its CPU implementation and its shapes."""
    name = f"bregma::{schema[: schema.index('(')]}"
    torch.library.define(name, schema[schema.index("(") :])
    torch.library.impl(name, "CPU", run)
    torch.library.register_fake(name, fake)


def once_differentiable(name: str) -> None:
    """Let a second derivative through the backward operator ``name`` fail with a way out."""

    def refuse(ctx: Any, *grads: Any) -> Any:
        raise RuntimeError(
            "the numba kernels have no second derivative; compute it with bregma.dynamics.use_backend('torch')"
        )

    torch.library.register_autograd(f"bregma::{name}", refuse)


def to_be_derived(grad: Tensor) -> Tensor:
    """Make gradients under ``create_graph`` depend on something, or a second derivative would be zero without a word.

    What they depend on besides, the membranes, is no differentiable output of the operator that kept it.
    """
    if torch.compiler.is_compiling() or not torch.is_grad_enabled() or grad.requires_grad:
        return grad
    return grad.detach().requires_grad_()

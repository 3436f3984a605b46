"""Which implementation runs the recurrences: the plain torch reference or the compiled CPU kernels.

==========  ===============================================================================================
``"auto"``  the kernels where they apply (CPU, float32 or float64, built-in surrogate), the reference elsewhere
``torch``   always the reference: any device, any dtype, any surrogate, double backward, forward mode, ``torch.func``
``numba``   always the kernels; what they cannot do is an error
==========  ===============================================================================================

The choice holds for the process. It starts as the environment variable ``BREGMA_BACKEND``, or ``"auto"``.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch.autograd import forward_ad

Backend = Literal["auto", "torch", "numba"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)


def _checked(name: str, source: str) -> Backend:
    if name not in BACKENDS:
        raise ValueError(f"{source} must be one of {', '.join(BACKENDS)}, got {name!r}")
    return name


_chosen: Backend = _checked(os.environ.get("BREGMA_BACKEND", "auto"), "BREGMA_BACKEND")


def get_backend() -> Backend:
    """The backend in force: ``"auto"``, ``"torch"`` or ``"numba"``."""
    return _chosen


def set_backend(name: Backend) -> None:
    """Choose the backend for the rest of the process.

    Raises:
        ValueError: unknown name.
    """
    global _chosen
    _chosen = _checked(name, "backend")


@contextmanager
def use_backend(name: Backend) -> Iterator[None]:
    """Choose the backend for a block of code.

    Raises:
        ValueError: unknown name.

    Example:
        >>> with use_backend("torch"):
        ...     get_backend()
        'torch'
    """
    before = get_backend()
    set_backend(name)
    try:
        yield
    finally:
        set_backend(before)


def transforming() -> bool:
    """Whether forward-mode differentiation or a transform of ``torch.func`` is at work, which no kernel follows.

    Example:
        >>> transforming(), torch.func.vmap(lambda x: x + transforming())(torch.zeros(1))
        (False, tensor([1.]))
    """
    if forward_ad._current_level >= 0 or torch.compiler.is_compiling():  # the compiler cannot tell the rest
        return forward_ad._current_level >= 0
    return torch._C._functorch.peek_interpreter_stack() is not None

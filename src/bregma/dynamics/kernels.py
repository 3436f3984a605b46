"""How the compiled kernels are built, and the numbers that stand for options inside them.

Kernels are module-level functions over numpy arrays: numba compiles each once per dtype and keeps the result on disk.
They release the interpreter lock and write into arrays they are given. (What is kept is looked up by the file of the
kernel: who edits a helper that kernels of another file take in should delete ``__pycache__``.)
"""

from collections.abc import Callable
from typing import Any

import numba
import numba.extending
import numpy as np
from numpy.typing import NDArray

from bregma.dynamics.surrogate import ATan, Box, FastSigmoid, Surrogate, Triangle

Array = NDArray[Any]
Kernel = Callable[..., Any]

_njit: Any = numba.njit  # typed in some versions of numba only
_intrinsic: Any = numba.extending.intrinsic

SUBTRACT, SUBTRACT_DECAYED, ZERO, NONE = range(4)
RESET_CODES = {"subtract": SUBTRACT, "subtract_decayed": SUBTRACT_DECAYED, "zero": ZERO, "none": NONE}
ATAN, TRIANGLE, FAST_SIGMOID, BOX = range(4)


def kernel(function: Kernel) -> Kernel:
    """Compile with exact arithmetic: nothing reordered, no fused multiply-add, so that spikes equal the oracle's."""
    return _compile(function, fastmath=False)


def loose_kernel(function: Kernel) -> Kernel:
    """Compile for gradients, where a fused multiply-add only makes the result more accurate."""
    return _compile(function, fastmath={"contract", "nsz", "arcp"})


def inline(function: Kernel) -> Kernel:
    """Compile a helper that becomes part of the kernels that call it."""
    return _njit(function, inline="always")  # type: ignore[no-any-return]


def part(function: Kernel) -> Kernel:
    """Compile a helper, with exact arithmetic, that the compiler copies into the kernels that call it.

    Where arrays are handed over a million times, the calls would cost as much as the work.
    """
    return _compile(function, fastmath=False, forceinline=True)


def instruction(function: Kernel) -> Kernel:
    """A helper that writes machine-independent instructions itself: `numba.extending.intrinsic`."""
    return _intrinsic(function)  # type: ignore[no-any-return]


def _compile(function: Kernel, **options: Any) -> Kernel:
    options |= {"nogil": True, "error_model": "numpy"}
    try:
        return _njit(function, cache=True, **options)  # type: ignore[no-any-return]
    except RuntimeError:  # numba finds no folder it may write: compile anew in each process
        return _njit(function, **options)  # type: ignore[no-any-return]


def surrogate_code(surrogate: Surrogate) -> tuple[int, float] | None:
    """Number and parameter of a built-in surrogate, ``None`` for any other object."""
    # Not isinstance, as a subclass may have a derivative of its own; no match, which torch 2.6 cannot compile.
    if type(surrogate) is ATan:
        return ATAN, surrogate.alpha
    if type(surrogate) is Triangle:
        return TRIANGLE, surrogate.width
    if type(surrogate) is FastSigmoid:
        return FAST_SIGMOID, surrogate.slope
    if type(surrogate) is Box:
        return BOX, surrogate.width
    return None


def words_for(n: int) -> int:
    """How many 64-bit words hold one bit for each of ``n`` neurons."""
    return (n + 63) // 64


def as_bits(words: Array) -> Array:
    """Unsigned view of words that torch holds as int64."""
    return words.view(np.uint64)

"""What the recurrences refuse, in one line that names it, and which numbers they take."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from bregma import dynamics
from bregma.dynamics import RESETS, integrate, lif, recurrent_lif

GOOD = {"current": torch.ones(4, 2, 3), "weight": torch.eye(3), "decay": 0.9, "threshold": 1.0, "state": None}
TIME_MAJOR = r"current must be time-major \(T, B, n\) with T, B, n >= 1, got shape "
NOT_FINITE = (
    r"membrane became NaN or infinite in 1 of 3 neurons: current, state, decay, threshold and weight must be finite"
)


def with_nan(shape, at):
    value = torch.zeros(shape)
    value[at] = math.nan
    return value


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("current", [[1.0]], TypeError, r"current must be a floating-point tensor, got list"),
        ("current", torch.ones(4, 2, 3, dtype=torch.int64), TypeError, r"current .* tensor, got torch.int64"),
        ("current", torch.ones(4, 2, 3, dtype=torch.bool), TypeError, r"current .* tensor, got torch.bool"),
        ("current", torch.ones(2, 3), ValueError, TIME_MAJOR + r"\(2, 3\)"),
        ("current", torch.tensor(1.0), ValueError, TIME_MAJOR + r"\(\)"),
        ("current", torch.ones(4, 2, 1, 3), ValueError, TIME_MAJOR + r"\(4, 2, 1, 3\)"),
        ("current", torch.ones(0, 2, 3), ValueError, TIME_MAJOR + r"\(0, 2, 3\)"),
        ("current", torch.ones(4, 0, 3), ValueError, TIME_MAJOR + r"\(4, 0, 3\)"),
        ("current", torch.ones(4, 2, 0), ValueError, TIME_MAJOR + r"\(4, 2, 0\)"),
        ("current", with_nan((4, 2, 3), (1, 0, 2)), ValueError, NOT_FINITE),
        ("state", with_nan((2, 3), (1, 0)), ValueError, NOT_FINITE),
        ("state", torch.ones(3), ValueError, r"state must be \(B, n\) = \(2, 3\), got shape \(3,\)"),
        ("state", torch.ones(3, 2), ValueError, r"state must be \(B, n\) = \(2, 3\), got shape \(3, 2\)"),
        ("state", 0.0, TypeError, r"state must be a tensor or None, got float"),
        (
            "state",
            torch.ones(2, 3, dtype=torch.float64),
            TypeError,
            r"state must have the dtype of current, torch.float32, got torch.float64",
        ),
        ("decay", 1.5, ValueError, r"decay must be in \[0, 1\], got 1.5"),
        ("decay", -0.1, ValueError, r"decay must be in \[0, 1\], got -0.1"),
        ("decay", math.nan, ValueError, r"decay must be in \[0, 1\], got nan"),
        ("decay", "0.9", TypeError, r"decay must be a number or a tensor, got str"),
        ("decay", True, TypeError, r"decay must be a number or a tensor, got bool"),
        ("decay", torch.ones(2), ValueError, r"decay must be a number or \(3,\) for 3 neurons, got shape \(2,\)"),
        ("decay", torch.ones(2, 1), ValueError, r"decay must be .* for 3 neurons, got shape \(2, 1\)"),
        ("decay", torch.ones(3, dtype=torch.int32), TypeError, r"decay must be a number or .*, got torch.int32"),
    ],
)
def test_bad_input(name, value, error, message):
    given = {**GOOD, name: value}
    with pytest.raises(error, match=f"^{message}$"):
        recurrent_lif(**given)
    del given["weight"]
    with pytest.raises(error, match=f"^{message}$"):
        lif(**given)
    del given["threshold"]
    with pytest.raises(error, match=f"^{message}$"):
        integrate(**given)


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("threshold", 0.0, ValueError, r"threshold must be a finite number > 0, got 0"),
        ("threshold", -1, ValueError, r"threshold must be a finite number > 0, got -1"),
        ("threshold", math.nan, ValueError, r"threshold must be a finite number > 0, got nan"),
        ("threshold", math.inf, ValueError, r"threshold must be a finite number > 0, got inf"),
        (
            "threshold",
            torch.ones(4),
            ValueError,
            r"threshold must be a number or \(3,\) for 3 neurons, got shape \(4,\)",
        ),
        ("reset", "hard", ValueError, r"reset must be one of subtract, subtract_decayed, zero, none, got 'hard'"),
        ("weight", torch.ones(3), ValueError, r"weight must be \(3, 3\) for a current of 3 neurons, got shape \(3,\)"),
        ("weight", torch.ones(4, 3), ValueError, r"weight must be \(3, 3\) for .*, got shape \(4, 3\)"),
        ("weight", torch.ones(3, 3, dtype=torch.int8), TypeError, r"weight must be a .* tensor, got torch.int8"),
        ("weight", np.eye(3), TypeError, r"weight must be a floating-point tensor, got ndarray"),
        ("weight", with_nan((3, 3), (0, 0)), ValueError, NOT_FINITE),
    ],
)
def test_bad_input_of_spiking_layers(name, value, error, message):
    with pytest.raises(error, match=f"^{message}$"):
        recurrent_lif(**{**GOOD, name: value})


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_nan_is_found_whatever_reset_and_decay(reset, decay):
    """With decay 0 a membrane forgets everything but NaN."""
    with pytest.raises(ValueError, match="NaN or infinite in 1 of 2 neurons"):
        lif(with_nan((6, 1, 2), (0, 0, 1)), decay, 1.0, reset=reset)


@pytest.mark.parametrize("half", [np.float32(0.5), np.float16(0.5), np.float64(0.5), Fraction(1, 2)])
def test_numbers_of_any_library_are_numbers(half):
    current = torch.rand(4, 2, 3)
    for name in ("auto", "torch"):
        with dynamics.use_backend(name):
            spikes, membrane = dynamics.lif(current, half, half)
            assert torch.equal(dynamics.integrate(current, half)[0], dynamics.integrate(current, 0.5)[0])
            expected = dynamics.lif(current, 0.5, 0.5)
        assert torch.equal(spikes, expected[0])
        assert torch.equal(membrane, expected[1])
    assert dynamics.lif(current, np.int64(1), np.int64(1))[0].dtype == torch.float32
    for truth in (True, np.bool_(True)):
        with pytest.raises(TypeError, match="decay must be a number or a tensor, got bool"):
            dynamics.lif(current, truth, 1.0)

"""What the delayed recurrence and its schedule refuse: one line that names the argument, what came, what is allowed."""

import math

import pytest
import torch

from bregma.dynamics import delayed_recurrent_lif, spread_at

GOOD = {
    "current": torch.ones(4, 2, 3),
    "weight": torch.eye(3),
    "delays": torch.ones(3),
    "spread": 0.0,
    "decay": 0.9,
    "threshold": 1.0,
}


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("current", torch.ones(4, 3), ValueError, r"current must be time-major .*, got shape \(4, 3\)"),
        ("current", torch.ones(0, 2, 3), ValueError, r"current must be time-major .*, got shape \(0, 2, 3\)"),
        ("current", torch.ones(4, 2, 3).int(), TypeError, r"current must be a .* tensor, got torch.int32"),
        ("weight", torch.ones(2, 2), ValueError, r"weight must be \(3, 3\) for .*, got shape \(2, 2\)"),
        ("delays", torch.ones(2), ValueError, r"delays must be \(3,\) for 3 neurons, got shape \(2,\)"),
        ("delays", torch.tensor(1.0), ValueError, r"delays must be \(3,\) for 3 neurons, got shape \(\)"),
        ("delays", torch.ones(3).long(), TypeError, r"delays must be a floating-point tensor, got torch.int64"),
        ("delays", 2.0, TypeError, r"delays must be a floating-point tensor, got float"),
        ("delays", torch.tensor([1, math.nan, 0]), ValueError, r"delays and spread must be finite, got .* nan"),
        ("delays", torch.tensor([1, math.inf, 0]), ValueError, r"delays and spread must be finite, got .* inf"),
        ("spread", -0.5, ValueError, r"spread must be a finite number >= 0, got -0.5"),
        ("spread", math.nan, ValueError, r"spread must be a finite number >= 0, got nan"),
        ("spread", torch.ones(2), ValueError, r"spread must be a number or \(3,\) for 3 neurons, got shape \(2,\)"),
        ("decay", 2.0, ValueError, r"decay must be in \[0, 1\], got 2"),
        ("threshold", 0.0, ValueError, r"threshold must be a finite number > 0, got 0"),
        ("reset", "hard", ValueError, r"reset must be one of .*, got 'hard'"),
        ("slots", 0, ValueError, r"slots must be None or >= 1, got 0"),
        ("state", torch.ones(2, 3), ValueError, r"state must be \(1 \+ k, B, n\) = .*, got shape \(2, 3\)"),
        ("state", torch.ones(5, 3, 3), ValueError, r"state must be .* = \(5, 2, 3\), got shape \(5, 3, 3\)"),
        ("state", torch.ones(0, 2, 3), ValueError, r"state must be .* = \(1, 2, 3\), got shape \(0, 2, 3\)"),
        ("state", torch.ones(5, 2, 3).double(), TypeError, r"state must have the dtype .*32, got torch.float64"),
        ("state", 0.0, TypeError, r"state must be a tensor or None, got float"),
        ("gate", torch.ones(3), ValueError, r"gate must be \(B, n\) = \(2, 3\), got shape \(3,\)"),
    ],
)
def test_bad_input(name, value, error, message):
    with pytest.raises(error, match=f"^{message}$"):
        delayed_recurrent_lif(**{**GOOD, name: value})


@pytest.mark.parametrize("name", ["current", "weight"])
def test_nan_is_found(name):
    with pytest.raises(ValueError, match=r"^membrane became NaN or infinite in 3 of 3 neurons: current, state"):
        delayed_recurrent_lif(**{**GOOD, "current": 2 * GOOD["current"], name: math.nan * GOOD[name]})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"progress": -0.1}, r"progress must be in \[0, 1\], got -0.1"),
        ({"progress": 1.5}, r"progress must be in \[0, 1\], got 1.5"),
        ({"progress": 0.5, "start": 0.0}, r"start must be a finite number > 0, got 0"),
        ({"progress": 0.5, "end": math.nan}, r"end must be a finite number > 0, got nan"),
    ],
)
def test_bad_schedule(given, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        spread_at(**given)

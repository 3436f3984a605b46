"""The Gaussian mechanism by numerical integration of its definition, independent of closed forms."""

import math

from scipy.integrate import quad
from scipy.optimize import brentq


def delta(epsilon, sigma):
    """``max_S P(S) - e^epsilon Q(S)`` for P = N(1, sigma^2), Q = N(0, sigma^2): S is where the ratio is larger."""

    def density(x, mean):
        return math.exp(-(((x - mean) / sigma) ** 2) / 2) / (sigma * math.sqrt(2 * math.pi))

    border = 0.5 + epsilon * sigma**2
    return quad(lambda x: density(x, 1) - math.exp(epsilon) * density(x, 0), border, border + 12 * sigma, epsabs=1e-14)[
        0
    ]


def epsilon(sigma, wanted):
    return brentq(lambda value: delta(value, sigma) - wanted, 0, 60, xtol=1e-10)

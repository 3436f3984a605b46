"""Losses on the readout's last membrane, each with the proximal map that replaces Eq. (7) at the last step.

The augmented Lagrangian sees the last membrane as ``loss(z, y) + rho / 2 * ||z - v||^2`` with ``v`` what the dynamics
and the multiplier ask for; `Loss.prox` is its minimiser.
"""

from typing import Literal, Protocol

import torch
from torch import Tensor

_NEWTON_STEPS = 60


class Loss(Protocol):
    """A convex loss of the readout ``z`` (B, classes) against the coded labels ``y`` (B, classes)."""

    #: Largest eigenvalue of the second derivative of the loss of a sample.
    curvature: float

    def value(self, z: Tensor, y: Tensor) -> Tensor:
        """The loss, summed over samples; a scalar."""

    def each(self, z: Tensor, y: Tensor) -> Tensor:
        """The loss of each sample (B,)."""

    def residual(self, z: Tensor, y: Tensor) -> Tensor:
        """``-gradient / curvature`` (B, classes): to z plus this, the loss falls as a squared error would at least."""

    def prox(self, v: Tensor, y: Tensor, rho: float) -> Tensor:
        """The minimiser over z of ``value(z, y) + rho / 2 * ||z - v||^2`` (B, classes)."""


class SquaredError:
    """Eq. (3): ``||z - y||^2``, summed over classes and samples.

    Example:
        >>> SquaredError().prox(torch.tensor([[0.0]]), torch.tensor([[1.0]]), rho=2.0)
        tensor([[0.5000]])
    """

    curvature = 2.0

    def value(self, z: Tensor, y: Tensor) -> Tensor:
        """``||z - y||^2``."""
        return (z - y).square().sum()

    def each(self, z: Tensor, y: Tensor) -> Tensor:
        """See `Loss`."""
        return (z - y).square().sum(1)

    def residual(self, z: Tensor, y: Tensor) -> Tensor:
        """``y - z``."""
        return y - z

    def prox(self, v: Tensor, y: Tensor, rho: float) -> Tensor:
        """``(2 y + rho v) / (2 + rho)``, Eq. (7) at t = T."""
        return (2 * y + rho * v) / (2 + rho)


class SquaredHinge:
    """``max(0, 1 - s z)^2`` with ``s`` = 1 for the class and -1 for the others, summed over classes and samples.

    Example:
        >>> SquaredHinge().prox(torch.tensor([[0.0, -2.0]]), torch.tensor([[1.0, 0.0]]), rho=2.0)
        tensor([[ 0.5000, -2.0000]])
    """

    curvature = 2.0

    def value(self, z: Tensor, y: Tensor) -> Tensor:
        """The loss, summed."""
        return self.each(z, y).sum()

    def each(self, z: Tensor, y: Tensor) -> Tensor:
        """See `Loss`."""
        return (1 - _signs(y) * z).clamp(min=0).square().sum(1)

    def residual(self, z: Tensor, y: Tensor) -> Tensor:
        """``s max(0, 1 - s z)``: the way to the margin."""
        sign = _signs(y)
        return sign * (1 - sign * z).clamp(min=0)

    def prox(self, v: Tensor, y: Tensor, rho: float) -> Tensor:
        """A sample on the right side of the margin stays; for the others it is the squared error to the margin."""
        sign = _signs(y)
        return torch.where(sign * v >= 1, v, (2 * sign + rho * v) / (2 + rho))


class CrossEntropy:
    """Softmax cross-entropy, summed over samples.

    Example:
        >>> loss, y = CrossEntropy(), torch.tensor([[1.0, 0.0]], dtype=torch.float64)
        >>> z = loss.prox(torch.zeros(1, 2, dtype=torch.float64), y, rho=1.0)
        >>> gradient = torch.softmax(z, 1) - y + z
        >>> bool(gradient.abs().max() < 1e-12)
        True
    """

    curvature = 0.5  # Boehning 1992: the Hessian is at most (I - 1 1^T / C) / 2

    def value(self, z: Tensor, y: Tensor) -> Tensor:
        """The loss, summed."""
        return self.each(z, y).sum()

    def each(self, z: Tensor, y: Tensor) -> Tensor:
        """See `Loss`."""
        return torch.logsumexp(z, 1) - z.gather(1, y.argmax(1, keepdim=True)).squeeze(1)

    def residual(self, z: Tensor, y: Tensor) -> Tensor:
        """``2 (one-hot - softmax(z))``."""
        hot = torch.zeros_like(z).scatter_(1, y.argmax(1, keepdim=True), 1.0)
        return 2 * (hot - torch.softmax(z, 1))

    def prox(self, v: Tensor, y: Tensor, rho: float) -> Tensor:
        """Newton on one scalar per sample, in float64.

        With ``g = softmax(z)``, c the log of its normaliser and ``w = v + y / rho`` (y one-hot), the gradient is zero
        where ``z = w - g / rho``, that is ``log(g) + g / rho = w - c`` class by class: the scalar c is where the g sum
        to one. That sum falls and is convex in c, so Newton from the left never overshoots.
        """
        hot = torch.zeros_like(v).scatter_(1, y.argmax(1, keepdim=True), 1.0).double()
        w = v.double() + hot / rho  # z = w - g / rho
        c = torch.logsumexp(w - 1 / rho, 1, keepdim=True)  # g <= 1, so every z >= w - 1 / rho and c is too small
        for _ in range(_NEWTON_STEPS):
            g = _exponential_share(w, c, rho)
            excess = g.sum(1, keepdim=True) - 1
            slope = (g / (1 + g / rho)).sum(1, keepdim=True)  # -d g / d c
            c = c + excess / slope
            if bool(excess.abs().max() < 1e-14):
                break
        return (w - _exponential_share(w, c, rho) / rho).to(v.dtype)


def _exponential_share(w: Tensor, c: Tensor, rho: float) -> Tensor:
    """The root g > 0 of ``log(g) + g / rho = w - c``, by Newton in ``h = log(g)``."""
    aim = w - c
    h = torch.minimum(aim, torch.log1p(aim.clamp(min=0)) + torch.tensor(rho, dtype=w.dtype).log().clamp(min=0))
    for _ in range(_NEWTON_STEPS):
        g = h.exp() / rho
        step = (h + g - aim) / (1 + g)
        h = h - step
        if bool(step.abs().max() < 1e-14):
            break
    return h.exp()


def _signs(y: Tensor) -> Tensor:
    """1 for the class of each sample and -1 for the others, whatever numbers code them."""
    return torch.full_like(y, -1.0).scatter_(1, y.argmax(1, keepdim=True), 1.0)


LossName = Literal["squared_error", "squared_hinge", "cross_entropy"]
LOSSES: dict[LossName, type[Loss]] = {
    "squared_error": SquaredError,
    "squared_hinge": SquaredHinge,
    "cross_entropy": CrossEntropy,
}

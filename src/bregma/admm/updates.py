"""The closed-form updates, arXiv 2505.05527, Eq. (4)-(9) and Algorithm 1: one pure function each.

Notation of `bregma.admm.problem`. Two conventions make each formula serve with and without multipliers:

- A multiplier ``y`` of a residual r shifts it by ``d = y / rho``, since ``rho / 2 * ||r||^2 + <r, y>`` is
  ``rho / 2 * ||r + d||^2`` up to a constant. So ``p`` below is the drive ``W a - d``, and the sums x and v
  carry ``+ d``. With d zero but for the readout's last step, these are the paper's formulas to the letter.
- A membrane and a spike read their neighbours in time only. So the updates take ``steps``, indices of time steps of
  which no two are neighbours, and give the new values of all of them at once: (K, B, n) for K steps.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from bregma.admm.losses import Loss
from bregma.admm.problem import Constants
from bregma.dynamics import integrate


def weights(sums: Tensor, inputs: Tensor, ridge: float) -> Tensor:
    """Eq. (4) and, with the multiplier in the sums, Eq. (5): least squares of the sums on the inputs.

    Args:
        sums: ``x + d`` (T, B, n).
        inputs: presynaptic spikes (T, B, inputs).
        ridge: see `Constants`; zero gives the solution of minimum norm, as the pseudo-inverse does.

    Returns:
        W (n, inputs).

    Example:
        >>> inputs = torch.tensor([[[1.0, 0.0]], [[1.0, 1.0]]])
        >>> weights(inputs @ torch.tensor([[2.0], [3.0]]), inputs, ridge=0.0)
        tensor([[2., 3.]])
    """
    rows = inputs.flatten(0, 1)
    return solve_gram(sums.flatten(0, 1).T @ rows, rows.T @ rows, ridge, like=sums)


def solve_gram(product: Tensor, gram: Tensor, ridge: float, like: Tensor | None = None) -> Tensor:
    """``product @ (gram + ridge * I)^-1`` by a Cholesky factor in float64, or without ridge by the pseudo-inverse.

    Args:
        product: (m, n).
        gram: (n, n), of which the lower triangle is read.
        ridge: >= 0.
        like: tensor in whose dtype the sums were formed and the solution is returned; the product by default.

    Raises:
        ValueError: the ridge is positive, but too small to make the matrix positive definite.
    """
    dtype: torch.dtype = product.dtype if like is None else like.dtype
    if ridge == 0:
        solution = pseudo_inverse(gram, torch.finfo(dtype).eps) @ product.T.double()
    else:
        solution = torch.cholesky_solve(product.T.double(), cholesky(gram, ridge))
    result: Tensor = solution.T.to(dtype).contiguous()
    return result


def cholesky(gram: Tensor, ridge: float) -> Tensor:
    """Lower Cholesky factor of ``gram + ridge * I`` in float64.

    Raises:
        ValueError: it is not positive definite, or not finite.
    """
    shifted = gram.to(torch.float64, copy=True)
    shifted.diagonal().add_(ridge)
    factor: Tensor
    factor, info = torch.linalg.cholesky_ex(shifted)
    if int(info) != 0:
        _require_finite(gram)
        raise ValueError(f"ridge must be larger, got {ridge}: the Gram matrix of {len(gram)} inputs is singular")
    return factor


def pseudo_inverse(gram: Tensor, precision: float = 2.0**-52) -> Tensor:
    """Moore-Penrose inverse of a Gram matrix, in float64; eigenvalues within rounding of zero count as zero.

    Example:
        >>> pseudo_inverse(torch.tensor([[2.0, 0.0], [0.0, 0.0]]))
        tensor([[0.5000, 0.0000],
                [0.0000, 0.0000]], dtype=torch.float64)
    """
    if not len(gram):  # of inputs of which none ever fires; there is no largest eigenvalue
        return gram.double()
    _require_finite(gram)
    values, vectors = torch.linalg.eigh(gram.double())
    kept = values > values[-1].clamp(min=0) * len(gram) * precision
    inverse = torch.where(kept, 1 / torch.where(kept, values, 1), 0)
    result: Tensor = (vectors * inverse) @ vectors.T
    return result


def _require_finite(gram: Tensor) -> None:
    if not bool(gram.isfinite().all()):
        raise ValueError(f"the Gram matrix of {len(gram)} inputs of a layer overflows: X or a weight is too large")


def membranes(z: Tensor, a: Tensor, p: Tensor, steps: Tensor, constants: Constants, m: Tensor | None = None) -> Tensor:
    """Eq. (6) followed by Algorithm 1: new membranes of a hidden layer at ``steps``.

    Args:
        z: membranes (T, B, n).
        a: spikes of the same layer (T, B, n).
        p: drive ``W a - d`` (T, B, n).
        steps: time steps to update (K,).
        constants: rho, sigma, decay, threshold, epsilon.
        m: multiplier of ``a - H(z)`` over sigma (T, B, n); none in the paper.

    Returns:
        Minimisers of the Lagrangian over these membranes, the rest held fixed (K, B, n); where the best membrane would
        fire but has no smallest value, ``threshold + epsilon``.
    """
    rho, decay = constants.rho, constants.decay
    last = len(z) - 1
    q = p[steps] + decay * _before(z, steps) - constants.threshold * _before(a, steps)
    goal = _after(z, steps) - _after(p, steps) + constants.threshold * a[steps]  # what decay * z should become
    wish = a[steps] if m is None else a[steps] + m[steps]
    follows = (steps < last).to(z.dtype).view(-1, 1, 1)
    best = (q + follows * decay * goal) / (1 + follows * decay**2)

    def cost(value: Tensor) -> Tensor:
        misfit = (value - q).square() + follows * (decay * value - goal).square()
        fires = (value > constants.threshold).to(z.dtype)
        return rho / 2 * misfit + constants.sigma / 2 * (wish - fires).square()

    return z_minimizer(best, cost, constants.threshold, constants.epsilon)


def z_minimizer(z: Tensor, cost: Callable[[Tensor], Tensor], threshold: float, epsilon: float) -> Tensor:
    """Algorithm 1: entry by entry, cross the threshold if that costs less.

    Args:
        z: minimisers of the cost without the Heaviside step.
        cost: the cost with it, entry by entry; away from the threshold it must be convex.
        threshold: where the step is.
        epsilon: distance above the threshold that counts as firing.

    Example:
        >>> def cost(z):
        ...     return (z - 0.75) ** 2 + 1.0 * (z <= 1)  # silence is expensive
        >>> z_minimizer(torch.tensor([0.75]), cost, threshold=1.0, epsilon=0.125)
        tensor([1.1250])
    """
    now, low, high = cost(z), cost(torch.full_like(z, threshold)), cost(torch.full_like(z, threshold + epsilon))
    silenced = (z > threshold) & (low <= now)
    raised = (z <= threshold) & (high < now)
    return torch.where(silenced, threshold, torch.where(raised, threshold + epsilon, z))


def readout_membranes(z: Tensor, p: Tensor, y: Tensor, loss: Loss, steps: Tensor, constants: Constants) -> Tensor:
    """Eq. (7): new membranes of the readout at ``steps``.

    Args:
        z: membranes of the readout (T, B, classes).
        p: drive ``W a - d`` (T, B, classes).
        y: coded labels (B, classes).
        loss: its proximal map is the update of the last step.
        steps: time steps to update (K,).
        constants: rho, decay.
    """
    decay, last = constants.decay, len(z) - 1
    s = p[steps] + decay * _before(z, steps)
    follows = (steps < last).to(z.dtype).view(-1, 1, 1)
    new = (s + follows * decay * (_after(z, steps) - _after(p, steps))) / (1 + follows * decay**2)
    final = steps == last
    if bool(final.any()):
        new[final] = loss.prox(s[final][0], y, constants.rho)
    return new


def readout_trajectory(p: Tensor, y: Tensor, loss: Loss, constants: Constants) -> Tensor:
    """All membranes of the readout at once: the minimiser of the Lagrangian over the whole sequence (T, B, classes).

    The optimality conditions are tridiagonal in time and have a closed form. For a given last membrane, the cheapest
    residuals are ``r[t] = decay^(T-t) * e``, which add up to ``kappa * e`` with ``kappa = sum decay^(2(T-t))``. So the
    last membrane is the proximal map of the loss at the free-running one with ``rho / kappa`` in place of rho.

    Args:
        p: drive ``W a - d`` (T, B, classes).
        y: coded labels (B, classes).
        loss: its proximal map gives the last membrane.
        constants: rho, decay.
    """
    powers = constants.decay ** torch.arange(len(p) - 1, -1, -1, dtype=p.dtype, device=p.device)
    kappa = float(powers.square().sum())
    free = integrate(p, constants.decay)[1]
    e = (loss.prox(free, y, constants.rho / kappa) - free) / kappa
    return integrate(p + powers.view(-1, 1, 1) * e, constants.decay)[0]


def spike_product(
    z: Tensor, p: Tensor, feedback: Tensor, steps: Tensor, constants: Constants, m: Tensor | None = None
) -> Tensor:
    """The right-hand side of Eq. (8) and (9) at ``steps`` (K, B, n).

    Args:
        z: membranes of the same layer (T, B, n).
        p: drive ``W a - d`` of the same layer (T, B, n).
        feedback: ``rho * (v + d) @ W`` of the next layer (T, B, n).
        steps: time steps to update (K,).
        constants: rho, sigma, decay, threshold.
        m: multiplier of ``a - H(z)`` over sigma (T, B, n); none in the paper.
    """
    wish = (z[steps] > constants.threshold).to(z.dtype)
    if m is not None:
        wish = wish - m[steps]
    follows = (steps < len(z) - 1).to(z.dtype).view(-1, 1, 1)
    w = _after(z, steps) - _after(p, steps) - follows * constants.decay * z[steps]
    return feedback[steps] - constants.rho * constants.threshold * w + constants.sigma * wish


def spike_shift(final: bool, constants: Constants) -> float:
    """The multiple of the identity in Eq. (8) and (9): ``sigma + rho * threshold^2`` but at the last step ``sigma``."""
    return constants.sigma + (0.0 if final else constants.rho * constants.threshold**2)


def spikes(product: Tensor, weight: Tensor, shift: float, rho: float) -> Tensor:
    """Eq. (8) and (9) before the clip: ``product @ (rho * W^T W + shift * I)^-1``.

    Args:
        product: see `spike_product` (K, B, n).
        weight: weights of the next layer (m, n).
        shift: see `spike_shift`.
        rho: weight of the dynamics.
    """
    return solve_gram(product.flatten(0, 1), rho * (weight.T @ weight), shift).view_as(product)


def clip(a: Tensor) -> Tensor:
    """Line 11 of Algorithm 2; not the minimiser over [0, 1], since ``W^T W`` is not diagonal."""
    return a.clamp(0, 1)


def multiplier(value: Tensor, residual: Tensor, rho: float) -> Tensor:
    """Line 18 of Algorithm 2: dual ascent, ``multiplier + rho * residual``."""
    return value + rho * residual


def _before(x: Tensor, steps: Tensor) -> Tensor:
    """``x[steps - 1]``, zero before the first step."""
    exists = (steps > 0).to(x.dtype).view(-1, 1, 1)
    return x[(steps - 1).clamp(min=0)] * exists


def _after(x: Tensor, steps: Tensor) -> Tensor:
    """``x[steps + 1]``, zero after the last step."""
    exists = (steps < len(x) - 1).to(x.dtype).view(-1, 1, 1)
    return x[(steps + 1).clamp(max=len(x) - 1)] * exists

r"""The relaxed problem: variables, augmented Lagrangian and residuals, arXiv 2505.05527, Eq. (1)-(3).

The paper numbers layers l = 1 ... L and writes samples as columns. Here all is time-major with samples as rows: layer
``k = l - 1`` has membranes ``z[k]`` (T, B, n), spikes ``a[k]`` (T, B, n) and weights ``W[k]`` (n, inputs) as in
`torch.nn.Linear`. The last layer is the readout, which neither fires nor resets. The residual of its dynamics is

    r[k][t] = z[k][t] - decay * z[k][t-1] - a[k-1][t] @ W[k].T + threshold * a[k][t-1]

with ``a[-1]`` the data, and nothing before the first step. The relaxed spikes live in [0, 1].
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from bregma.admm.losses import Loss, SquaredError


@dataclass(frozen=True)
class Constants:
    """What the updates are made of besides the variables; the defaults are Table 1 of the paper.

    Args:
        rho: weight of the dynamics, > 0.
        sigma: weight of the agreement between spikes and membranes, > 0.
        decay: what is left of a membrane after one step, in [0, 1].
        threshold: firing threshold, > 0.
        epsilon: how far above the threshold Algorithm 1 lifts a membrane, > 0; the paper gives no value.
        ridge: weight of ``rho / 2 * ridge * sum ||W||^2``, >= 0; not in the paper, whose inverse does not exist when
            an input never fires.

    Raises:
        ValueError: a constant out of its range.

    Example:
        >>> Constants(sigma=0.5).rho
        1.0
    """

    rho: float = 1.0
    sigma: float = 0.1
    decay: float = 0.95
    threshold: float = 1.0
    epsilon: float = 1e-3
    ridge: float = 0.0

    def __post_init__(self) -> None:
        for name in ("rho", "sigma", "threshold", "epsilon"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be > 0 and finite, got {getattr(self, name)}")
        if not 0 <= self.decay <= 1:
            raise ValueError(f"decay must be in [0, 1], got {self.decay}")
        if not 0 <= self.ridge < float("inf"):
            raise ValueError(f"ridge must be >= 0 and finite, got {self.ridge}")


@dataclass(frozen=True)
class Problem:
    """The data, what the readout should become, and the constants.

    Args:
        x: input spikes (T, B, n_0).
        y: wanted membrane of the readout at the last step (B, classes).
        constants: see `Constants`.
        loss: distance between readout and ``y``.
    """

    x: Tensor
    y: Tensor
    constants: Constants = field(default_factory=Constants)
    loss: Loss = field(default_factory=SquaredError)


@dataclass
class Variables:
    """What ADMM minimises over, and the multipliers.

    Args:
        weights: W, a matrix (n, inputs) per layer.
        membranes: z, a tensor (T, B, n) per layer.
        spikes: a, a tensor (T, B, n) per hidden layer.
        multipliers: of the dynamics, per layer (T, B, n), or None where the dynamics are a mere penalty. In the paper
            they are zero but for the last layer at the last step.
        spike_multipliers: of ``a = H(z)``, per hidden layer (T, B, n), or None as in the paper; none at all if empty.
    """

    weights: list[Tensor]
    membranes: list[Tensor]
    spikes: list[Tensor]
    multipliers: list[Tensor | None]
    spike_multipliers: list[Tensor | None] = field(default_factory=list)

    def tensors(self) -> dict[str, Tensor]:
        """All of them by name, for checkpoints."""
        names = ("weights", "membranes", "spikes", "multipliers", "spike_multipliers")
        lists = {name: getattr(self, name) for name in names}
        return {f"{name}.{k}": v for name, tensors in lists.items() for k, v in enumerate(tensors) if v is not None}


def presynaptic(problem: Problem, variables: Variables, layer: int) -> Tensor:
    """What a layer listens to: the data or the spikes of the layer before (T, B, inputs)."""
    return problem.x if layer == 0 else variables.spikes[layer - 1]


def one_step_sums(z: Tensor, a: Tensor | None, constants: Constants) -> Tensor:
    """``z[t] - decay * z[t-1] + threshold * a[t-1]``: x_l of Eq. (4) and v_l of Eq. (8), or u_L without spikes.

    Example:
        >>> one_step_sums(torch.ones(3, 1, 1), torch.ones(3, 1, 1), Constants(decay=0.5)).flatten()
        tensor([1.0000, 1.5000, 1.5000])
    """
    later = z[1:] - constants.decay * z[:-1]
    if a is not None:
        later = later + constants.threshold * a[:-1]
    return torch.cat([z[:1], later])


def dynamics_residual(problem: Problem, variables: Variables, layer: int) -> Tensor:
    """What one layer violates the dynamics of Eq. (1) by: r (T, B, n)."""
    a = variables.spikes[layer] if layer < len(variables.spikes) else None
    drive = presynaptic(problem, variables, layer) @ variables.weights[layer].T
    return one_step_sums(variables.membranes[layer], a, problem.constants) - drive


def spike_residual(problem: Problem, variables: Variables, layer: int) -> Tensor:
    """``a - H(z)`` of one hidden layer (T, B, n); a membrane at the threshold does not fire."""
    z, a = variables.membranes[layer], variables.spikes[layer]
    return a - (z > problem.constants.threshold).to(z.dtype)


def lagrangian(problem: Problem, variables: Variables) -> Tensor:
    """The augmented Lagrangian, Eq. (2), with the ridge term of the weights; a scalar that autograd can differentiate.

    Args:
        problem: data and constants.
        variables: where to evaluate.

    Returns:
        A tensor () in the dtype of the variables.

    Example:
        >>> problem = Problem(torch.ones(1, 1, 1), torch.zeros(1, 1), Constants(rho=2.0))
        >>> one, zero = torch.ones(1, 1, 1), torch.zeros(1, 1, 1)
        >>> at = Variables([torch.ones(1, 1)] * 2, [one, one], [zero], [None, 3 * one])
        >>> lagrangian(problem, at)  # 1 (loss) + 1 * 0 (first layer) + 1 * 1 (readout) + 0.05 * 0 + 3 * 1
        tensor(5.)
    """
    constants = problem.constants
    total = problem.loss.value(variables.membranes[-1][-1], problem.y)
    for layer, weight in enumerate(variables.weights):
        residual = dynamics_residual(problem, variables, layer)
        total = total + constants.rho / 2 * (residual.square().sum() + constants.ridge * weight.square().sum())
        multiplier = variables.multipliers[layer]
        if multiplier is not None:
            total = total + (residual * multiplier).sum()
    for layer in range(len(variables.spikes)):
        total = total + constants.sigma / 2 * spike_residual(problem, variables, layer).square().sum()
    for layer, multiplier in enumerate(variables.spike_multipliers):
        if multiplier is not None:
            total = total + (spike_residual(problem, variables, layer) * multiplier).sum()
    return total


def square(x: Tensor) -> float:
    """Squared norm, summed in float64."""
    return float(x.square().sum(dtype=torch.float64))


def inner(x: Tensor, multiplier: Tensor | None) -> float:
    """Inner product, summed in float64; zero without a multiplier."""
    return 0.0 if multiplier is None else float((x * multiplier).sum(dtype=torch.float64))

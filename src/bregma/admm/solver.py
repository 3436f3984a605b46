"""Algorithm 2 of arXiv 2505.05527: one solver whose defaults are the paper's, fast by what the paper leaves free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import torch
from torch import Tensor

from bregma.admm import kernels, updates
from bregma.admm.inputs import DenseInputs, Inputs, data_inputs
from bregma.admm.losses import LOSSES, LossName
from bregma.admm.order import ORDERS, Order, layer_order, time_order, waves
from bregma.admm.problem import Constants, Variables, one_step_sums
from bregma.admm.products import times
from bregma.admm.start import uniform_start
from bregma.admm.systems import SpikeSystem


@dataclass(frozen=True)
class Settings:
    """How to run Algorithm 2.

    Args:
        constants: see `Constants`; the solver multiplies ``ridge`` by the T * B rows of the regression, so that it
            means the same for any amount of data.
        warming: iterations before the multiplier moves, >= 0.
        order: in which order layers and time steps are visited: ``"random"`` (a new permutation per iteration, as in
            the paper's simulations), ``"paper"`` (Algorithm 2 as written) or ``"red-black"`` (even ones, then odd).
        loss: ``"squared_error"`` (the paper's), ``"squared_hinge"`` or ``"cross_entropy"``.

    Raises:
        ValueError: a setting out of its range.

    Example:
        >>> Settings(order="paper").warming
        300
    """

    constants: Constants = field(default_factory=lambda: Constants(ridge=1e-6))
    warming: int = 300
    order: Order = "random"
    loss: LossName = "squared_error"

    def __post_init__(self) -> None:
        if self.warming < 0:
            raise ValueError(f"warming must be >= 0, got {self.warming}")
        for name, allowed in (("order", ORDERS), ("loss", get_args(LossName))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")


class ADMM:
    """The variables of a network on fixed data, and the iteration that moves them.

    Args:
        x: input spikes (T, B, n_0), float32 or float64; all is computed in this dtype, linear systems in float64.
        y: wanted readout (B, classes), same dtype: the coded labels.
        hidden: neurons of each hidden layer.
        settings: see `Settings`.
        seed: of the initial variables and of random orders.
        start: initial variables, taken over as they are; uniform in [0, 1) by default, with weights and multiplier at
            zero (the paper does not say).

    Example:
        >>> x = (torch.rand(6, 4, 8, generator=torch.Generator().manual_seed(0)) < 0.3).float()
        >>> solver = ADMM(x, torch.eye(2)[[0, 1, 0, 1]], hidden=(5,))
        >>> before = solver.measure()["lagrangian"]
        >>> for _ in range(3):
        ...     solver.step()
        >>> solver.measure()["lagrangian"] < before
        True
    """

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        hidden: Sequence[int],
        settings: Settings | None = None,
        *,
        seed: int = 0,
        start: Variables | None = None,
    ) -> None:
        self.settings = settings or Settings()
        constants = self.settings.constants
        self.constants = replace(constants, ridge=constants.ridge * x.shape[0] * x.shape[1])
        self.loss = LOSSES[self.settings.loss]()
        self.y = y
        self.iteration = 0
        self.generator = torch.Generator().manual_seed(seed)
        self._fused = x.device.type == "cpu"
        self._scratch: dict[str, Tensor] = {}
        self._steps = len(x)
        self.variables = start or uniform_start(x, (*hidden, y.shape[1]), self.generator)
        self._inputs: list[Inputs] = [data_inputs(x), *(DenseInputs(a) for a in self.variables.spikes)]

    def step(self) -> None:
        """One iteration of Algorithm 2."""
        order = self.settings.order
        for layer in layer_order(order, len(self.variables.spikes), self.generator):
            self._update_hidden(layer, waves(time_order(order, self._steps, self.generator)))
        self._update_readout(waves(time_order(order, self._steps, self.generator)))
        self.iteration += 1

    def _update_hidden(self, layer: int, order: list[Tensor]) -> None:
        """Lines 2-12 for one layer: weights, then membranes and spikes wave by wave."""
        self._fit(layer)
        p = self._drive(layer)
        feedback = self._feedback(layer)
        weight, rho = self.variables.weights[layer + 1], self.constants.rho
        systems = [SpikeSystem(weight, rho, updates.spike_shift(final, self.constants)) for final in (False, True)]
        for steps in order:
            final = int(steps[-1]) == self._steps - 1
            self._update_wave(layer, steps, p, feedback, systems[final])

    def _update_wave(self, layer: int, steps: Tensor, p: Tensor, feedback: Tensor, system: SpikeSystem) -> None:
        z, a = self.variables.membranes[layer], self.variables.spikes[layer]
        shape = (len(steps), *z.shape[1:])
        if self._fused:
            product = self._buffer("product", shape)
            arguments = *_flat(z, a, p, feedback), steps.numpy(), _values(self.constants, z), *_flat(product)
            kernels.hidden_wave(*arguments)
        else:
            z[steps] = updates.membranes(z, a, p, steps, self.constants)
            product = updates.spike_product(z, p, feedback, steps, self.constants)
        solution = self._buffer("sums", shape)
        system.solve(product.view(-1, z.shape[-1]), solution.view(-1, z.shape[-1]))
        if self._fused:
            kernels.clip_into(*_flat(a), steps.numpy(), *_flat(solution))
        else:
            a[steps] = updates.clip(solution)

    def _update_readout(self, order: list[Tensor]) -> None:
        """Lines 14-18: weights and membranes of the readout, then the multiplier."""
        layer = len(self.variables.weights) - 1
        self._fit(layer)
        p = self._drive(layer)
        z, multiplier = self.variables.membranes[layer], self.variables.multipliers[layer]
        for steps in order:
            z[steps] = updates.readout_membranes(z, p, self.y, self.loss, steps, self.constants)
        if self.iteration >= self.settings.warming and multiplier is not None:
            residual = self._sums(layer, shifted=False)[-1] - (p[-1] + multiplier[-1] / self.constants.rho)
            multiplier[-1] = updates.multiplier(multiplier[-1], residual, self.constants.rho)

    def _fit(self, layer: int) -> None:
        """Eq. (4) or (5)."""
        self.variables.weights[layer] = self._inputs[layer].fit(self._sums(layer), self.constants.ridge)

    def _sums(self, layer: int, shifted: bool = True) -> Tensor:
        """``x + d`` of a layer (T, B, n), in the scratch buffer "sums"."""
        z, multiplier = self.variables.membranes[layer], self.variables.multipliers[layer]
        a = self.variables.spikes[layer] if layer < len(self.variables.spikes) else None
        sums = self._buffer("sums", z.shape)
        if self._fused and a is not None:
            kernels.one_step_sums(*_flat(z, a), self.constants.decay, self.constants.threshold, *_flat(sums))
        else:
            sums.copy_(one_step_sums(z, a, self.constants))
        return sums if multiplier is None or not shifted else sums.add_(multiplier, alpha=1 / self.constants.rho)

    def _drive(self, layer: int, shifted: bool = True) -> Tensor:
        """``W a - d`` of a layer (T, B, n), in the scratch buffer "drive"."""
        p = self._buffer("drive", self.variables.membranes[layer].shape)
        self._inputs[layer].drive(self.variables.weights[layer], p)
        multiplier = self.variables.multipliers[layer]
        return p if multiplier is None or not shifted else p.sub_(multiplier, alpha=1 / self.constants.rho)

    def _feedback(self, layer: int) -> Tensor:
        """``rho * (v + d) @ W`` of the layer behind (T, B, n), in the scratch buffer "feedback"."""
        weight = self.variables.weights[layer + 1]
        feedback = self._buffer("feedback", self.variables.membranes[layer].shape)
        rows = self._sums(layer + 1).view(-1, len(weight))
        times(rows, self.constants.rho * weight, feedback.view(-1, weight.shape[1]))
        return feedback

    def _buffer(self, name: str, shape: Sequence[int]) -> Tensor:
        """Memory that is reused from call to call."""
        size, like = torch.Size(shape).numel(), self.y
        if name not in self._scratch or self._scratch[name].numel() < size:
            self._scratch[name] = like.new_zeros(size)
        return self._scratch[name][:size].view(*shape)

    def measure(self) -> dict[str, Any]:
        """The Lagrangian (2), the loss and the norms of the residuals, as Figures 3 and 4 show them.

        Returns:
            ``lagrangian``; ``loss``; ``primal``, norm of the residual of the exact constraint; ``membrane_residuals``
            and ``spike_residuals``, norms per layer.
        """
        v, c = self.variables, self.constants
        loss = float(self.loss.value(v.membranes[-1][-1], self.y))
        total, squares, primal = loss, [], 0.0
        for layer, weight in enumerate(v.weights):
            residual = self._sums(layer, shifted=False).sub_(self._drive(layer, shifted=False))
            squares.append(float(residual.square().sum(dtype=torch.float64)))
            total += c.rho / 2 * (squares[-1] + c.ridge * float(weight.square().sum(dtype=torch.float64)))
            multiplier = v.multipliers[layer]
            if multiplier is not None:
                total += float((residual * multiplier).sum(dtype=torch.float64))
                primal = float(residual[-1].norm())
        gaps = [
            float((a - (z > c.threshold).to(a.dtype)).square().sum(dtype=torch.float64))
            for z, a in zip(v.membranes, v.spikes, strict=False)
        ]
        return {
            "lagrangian": total + c.sigma / 2 * sum(gaps),
            "loss": loss,
            "primal": primal,
            "membrane_residuals": [square**0.5 for square in squares],
            "spike_residuals": [gap**0.5 for gap in gaps],
        }

    def state_dict(self) -> dict[str, Any]:
        """All that a run needs to go on bit by bit: copies of the variables, the iteration and the generator."""
        tensors = {name: tensor.clone() for name, tensor in self.variables.tensors().items()}
        return {"iteration": self.iteration, "generator": self.generator.get_state(), **tensors}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state of a solver with the same data and settings.

        Raises:
            ValueError: the state is of another network or of other data.
        """
        own = self.variables.tensors()
        for name, tensor in own.items():
            if name not in state or state[name].shape != tensor.shape or state[name].dtype != tensor.dtype:
                raise ValueError(f"state: {name} must be {tensor.dtype} of shape {tuple(tensor.shape)}")
        for name, tensor in own.items():
            tensor.copy_(state[name])
        self.iteration = int(state["iteration"])
        self.generator.set_state(state["generator"])


def _flat(*tensors: Tensor) -> tuple[Any, ...]:
    """Arrays (T, N) that share memory with tensors (T, B, n)."""
    return tuple(tensor.view(len(tensor), -1).numpy() for tensor in tensors)


def _values(constants: Constants, like: Tensor) -> Any:
    """The constants of `kernels.hidden_wave` in its order."""
    names = ("rho", "sigma", "decay", "threshold", "epsilon")
    return torch.tensor([getattr(constants, name) for name in names], dtype=like.dtype).numpy()

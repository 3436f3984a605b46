"""Algorithm 2 of arXiv 2505.05527: one solver whose defaults are the paper's, fast by what the paper leaves free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bregma.admm import kernels, updates
from bregma.admm.acceleration import Anderson, adapt
from bregma.admm.inputs import presynaptic_inputs
from bregma.admm.losses import LOSSES
from bregma.admm.network import Hidden, Network
from bregma.admm.order import layer_order, time_order, waves
from bregma.admm.problem import Variables, inner, one_step_sums, square
from bregma.admm.settings import Settings
from bregma.admm.start import uniform_start
from bregma.admm.systems import System
from bregma.admm.workers import ALONE, Workers, gathered, own_part, total, whereabouts


class ADMM:
    """The variables of a network on fixed data, and the iteration that moves them.

    Args:
        x: input spikes (T, B, n_0), float32 or float64; all is computed in this dtype, linear systems in float64.
        y: wanted readout (B, classes), same dtype: the coded labels.
        hidden: neurons of each hidden layer, or a `Convolution`.
        settings: see `Settings`.
        frame_shape: (channels, height, width) of the inputs, if the first layer is a convolution.
        seed: of the initial variables and of random orders.
        start: initial variables, taken over as they are; uniform in [0, 1) by default, with weights and multiplier at
            zero (the paper does not say).
        workers: a group whose workers hold a part of the samples each; all must call the same methods, and each finds
            the same weights as one worker with all samples.

    Raises:
        ValueError: several workers and Anderson acceleration, which does not know of them.

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
        hidden: Hidden,
        settings: Settings | None = None,
        *,
        frame_shape: Sequence[int] | None = None,
        seed: int = 0,
        start: Variables | None = None,
        workers: Workers = ALONE,
    ) -> None:
        self.settings = settings or Settings()
        if self.settings.anderson and workers.size > 1:
            raise ValueError(f"anderson must be 0 with several workers, got {self.settings.anderson}")
        self._workers = workers
        first, samples = whereabouts(workers, x.shape[1])
        self._own, self._samples = slice(first, first + x.shape[1]), samples
        constants = self.settings.constants
        self.constants = self._first = replace(constants, ridge=constants.ridge * x.shape[0] * samples)
        self.loss = LOSSES[self.settings.loss]()
        self.y = y
        self.iteration = 0
        self.generator = torch.Generator().manual_seed(seed)
        self.network = Network.build(hidden, x.shape[2], y.shape[1], frame_shape)
        self.variables = start or uniform_start(
            x, self.network.sizes, self.network.shapes, self.generator, first, samples
        )
        if self.settings.multipliers == "all":
            self.variables.multipliers = [torch.zeros_like(z) for z in self.variables.membranes]
            self.variables.spike_multipliers = [torch.zeros_like(a) for a in self.variables.spikes]
        self._inputs = presynaptic_inputs(x, self.variables.spikes, self.network.correlations, workers)
        self._anderson = Anderson(self.settings.anderson)
        self._fused = x.device.type == "cpu"
        self._scratch: dict[str, Tensor] = {}
        self._steps = len(x)

    @property
    def weights(self) -> list[Tensor]:
        """W of each layer, the readout's last."""
        return self.variables.weights

    def step(self) -> None:
        """One iteration of Algorithm 2."""
        before = self._copies() if self.settings.anderson else None
        order = self.settings.order
        for layer in layer_order(order, len(self.variables.spikes), self.generator):
            self._update_hidden(layer, waves(time_order(order, self._steps, self.generator)))
        self._update_readout(waves(time_order(order, self._steps, self.generator)))
        if self.iteration >= self.settings.warming:
            self._update_multipliers()
        self.iteration += 1
        if before is not None:
            self._extrapolate(before)
        if self.settings.penalties != "fixed":
            rms = self._rms() if self.settings.penalties == "balanced" else (0.0, 0.0)
            self.constants = adapt(self.settings.penalties, self.constants, self._first, self.iteration, rms)

    def _update_hidden(self, layer: int, order: list[Tensor]) -> None:
        """Lines 2-12 for one layer: weights, then membranes and spikes wave by wave."""
        self._fit(layer)
        p = self._drive(layer)
        feedback = self._feedback(layer)
        weight, rho = self.variables.weights[layer + 1], self.constants.rho
        shifts = [updates.spike_shift(final, self.constants) for final in (False, True)]
        systems = [self._inputs[layer + 1].system(weight, rho, shift) for shift in shifts]
        for steps in order:
            final = int(steps[-1]) == self._steps - 1
            self._update_wave(layer, steps, p, feedback, systems[final])

    def _update_wave(self, layer: int, steps: Tensor, p: Tensor, feedback: Tensor, system: System) -> None:
        z, a, m = self.variables.membranes[layer], self.variables.spikes[layer], self._wish(layer)
        shape = (len(steps), *z.shape[1:])
        if self._fused:
            product = self._buffer("product", shape)
            m = z.new_zeros(1, *z.shape[1:]) if m is None else m
            kernels.hidden_wave(*_flat(z, a, p, feedback, m), steps.numpy(), self._values(), *_flat(product))
        else:
            z[steps] = updates.membranes(z, a, p, steps, self.constants, m)
            product = updates.spike_product(z, p, feedback, steps, self.constants, m)
        solution = self._buffer("sums", shape)
        rows, out = product.view(-1, z.shape[-1]), solution.view(-1, z.shape[-1])
        if self.settings.spike_update == "exact":
            out.copy_(system.solve_in_box(rows, a[steps].view_as(rows)))
        else:
            system.solve(rows, out)
        if self.settings.relaxation != 1:
            solution.lerp_(a[steps], 1 - self.settings.relaxation)
        if self._fused:
            kernels.clip_into(*_flat(a), steps.numpy(), *_flat(solution))
        else:
            a[steps] = updates.clip(solution)

    def _update_readout(self, order: list[Tensor]) -> None:
        """Lines 14-17: weights and membranes of the readout."""
        layer = len(self.variables.weights) - 1
        self._fit(layer)
        p, z = self._drive(layer), self.variables.membranes[layer]
        if not z.numel():  # a worker without samples
            return
        if self.settings.readout_update == "exact":
            z.copy_(updates.readout_trajectory(p, self.y, self.loss, self.constants))
            return
        for steps in order:
            z[steps] = updates.readout_membranes(z, p, self.y, self.loss, steps, self.constants)

    def _update_multipliers(self) -> None:
        """Line 18; for all constraints if so wished."""
        v, c = self.variables, self.constants
        first = 0 if self.settings.multipliers == "all" else self._steps - 1
        for layer, value in enumerate(v.multipliers):
            if value is not None:
                value[first:] = updates.multiplier(value[first:], self._residual(layer)[first:], c.rho)
        for layer, value in enumerate(v.spike_multipliers):
            if value is not None:
                value.copy_(updates.multiplier(value, self._gap(layer), c.sigma))

    def _extrapolate(self, before: dict[str, Tensor]) -> None:
        """Try what Anderson acceleration proposes; go back if it does not lower the Lagrangian."""
        plain = self._copies()
        proposal = self._anderson.propose(before, plain)
        if proposal is None:
            return
        value = self.measure()["lagrangian"]
        self._take(proposal)
        for a in self.variables.spikes:
            a.clamp_(0, 1)
        if not self.measure()["lagrangian"] < value:
            self._take(plain)
            self._anderson.restart()

    def _copies(self) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in self.variables.tensors().items()}

    def _take(self, tensors: dict[str, Tensor]) -> None:
        for name, tensor in self.variables.tensors().items():
            tensor.copy_(tensors[name])

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
        weight = self.constants.rho * self.variables.weights[layer + 1]
        feedback = self._buffer("feedback", self.variables.membranes[layer].shape)
        return self._inputs[layer + 1].feedback(self._sums(layer + 1), weight, feedback)

    def _wish(self, layer: int) -> Tensor | None:
        """The multiplier of ``a - H(z)`` over sigma."""
        value = self.variables.spike_multipliers[layer] if self.variables.spike_multipliers else None
        return None if value is None else value / self.constants.sigma

    def _residual(self, layer: int) -> Tensor:
        """What the dynamics of a layer are violated by (T, B, n), in the scratch buffer "sums"."""
        return self._sums(layer, shifted=False).sub_(self._drive(layer, shifted=False))

    def _gap(self, layer: int) -> Tensor:
        """``a - H(z)`` (T, B, n)."""
        fires = (self.variables.membranes[layer] > self.constants.threshold).to(self.y.dtype)
        return torch.sub(self.variables.spikes[layer], fires, out=fires)

    def _rms(self) -> tuple[float, float]:
        """Root mean squares of the residuals of the hidden membranes and of the spikes."""
        hidden = range(len(self.variables.spikes))
        size = self._steps * self._samples * sum(self.network.sizes[:-1])
        squares = total(self._workers, [sum(square(of(k)) for k in hidden) for of in (self._residual, self._gap)])
        return (squares[0] / size) ** 0.5, (squares[1] / size) ** 0.5

    def _buffer(self, name: str, shape: Sequence[int]) -> Tensor:
        """Memory that is reused from call to call."""
        size = torch.Size(shape).numel()
        if name not in self._scratch or self._scratch[name].numel() < size:
            self._scratch[name] = self.y.new_zeros(size)
        return self._scratch[name][:size].view(*shape)

    def _values(self) -> Any:
        """The constants of `kernels.hidden_wave` in its order."""
        names = ("rho", "sigma", "decay", "threshold", "epsilon")
        return self.y.new_tensor([getattr(self.constants, name) for name in names]).numpy()

    def measure(self) -> dict[str, Any]:
        """The Lagrangian (2), the loss and the norms of the residuals, as Figures 3 and 4 show them.

        Returns:
            ``lagrangian``; ``loss``; ``primal``, norm of the residual of the exact constraint; ``membrane_residuals``
            and ``spike_residuals``, norms per layer.
        """
        v, c = self.variables, self.constants
        membranes, spikes, primal, multiplied = [], [], 0.0, 0.0
        for layer, value in enumerate(v.multipliers):
            residual = self._residual(layer)
            membranes.append(square(residual))
            primal = square(residual[-1])  # of the readout in the end
            multiplied += inner(residual, value)
        for layer, value in enumerate(v.spike_multipliers or [None] * len(v.spikes)):
            gap = self._gap(layer)
            spikes.append(square(gap))
            multiplied += inner(gap, value)
        loss = float(self.loss.value(v.membranes[-1][-1], self.y))
        loss, primal, multiplied, *squares = total(self._workers, [loss, primal, multiplied, *membranes, *spikes])
        membranes, spikes = squares[: len(membranes)], squares[len(membranes) :]
        ridge = c.ridge * sum(square(weight) for weight in v.weights)
        return {
            "lagrangian": loss + multiplied + c.rho / 2 * (sum(membranes) + ridge) + c.sigma / 2 * sum(spikes),
            "loss": loss,
            "primal": primal**0.5,
            "membrane_residuals": [value**0.5 for value in membranes],
            "spike_residuals": [value**0.5 for value in spikes],
        }

    def state_dict(self) -> dict[str, Any]:
        """All that a run needs to go on bit by bit: copies of the variables, what was adapted, and the generator.

        With several workers all must call this, and the first one gets the state of all samples.
        """
        return {
            "iteration": self.iteration,
            "penalties": [self.constants.rho, self.constants.sigma],
            "generator": self.generator.get_state(),
            "anderson": self._anderson.state_dict(),
            **gathered(self._workers, self._copies()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state of a solver with the same data and settings, whatever the number of workers was.

        Raises:
            ValueError: the state is of another network or of other data.
        """
        own = own_part(state, self.variables.tensors(), self._own, self._samples)
        self._take(own)
        self.iteration = int(state["iteration"])
        rho, sigma = state["penalties"]
        self.constants = replace(self.constants, rho=rho, sigma=sigma)
        self.generator.set_state(state["generator"])
        self._anderson.load_state_dict(state["anderson"])


def _flat(*tensors: Tensor) -> tuple[Any, ...]:
    """Arrays (T, N) that share memory with tensors (T, B, n)."""
    return tuple(tensor.view(len(tensor), -1).numpy() for tensor in tensors)

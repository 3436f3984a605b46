"""Algorithm 2 of arXiv 2505.05527: one solver whose defaults are the paper's, fast by what the paper leaves free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from bregma.admm import kernels, updates
from bregma.admm.acceleration import Anderson, adapt
from bregma.admm.network import Hidden
from bregma.admm.order import layer_order, time_order, waves
from bregma.admm.problem import Variables, inner, square
from bregma.admm.relaxed import RelaxedNetwork, flat
from bregma.admm.settings import Settings
from bregma.admm.systems import System
from bregma.admm.workers import ALONE, Workers, gathered, own_part, total


class ADMM(RelaxedNetwork):
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
        TypeError: x or y of another dtype.
        ValueError: x or y of another shape; an epsilon that is lost to rounding beside the threshold; several workers
            and Anderson acceleration, which does not know of them.

    Example:
        >>> import torch
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
        if settings and settings.anderson and workers.size > 1:
            raise ValueError(f"anderson must be 0 with several workers, got {settings.anderson}")
        super().__init__(x, y, hidden, settings or Settings(), frame_shape, seed, start, workers)
        self._first, self.iteration = self.constants, 0
        self._anderson = Anderson(self.settings.anderson)

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
            kernels.hidden_wave(*flat(z, a, p, feedback, m), steps.numpy(), self._values(), *flat(product))
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
            kernels.clip_into(*flat(a), steps.numpy(), *flat(solution))
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

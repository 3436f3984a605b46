"""The relaxed network of the paper's solver: its variables, and what updates and figures need of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bregma.admm import kernels
from bregma.admm.inputs import presynaptic_inputs
from bregma.admm.losses import LOSSES
from bregma.admm.network import Hidden, Network
from bregma.admm.problem import Constants, Variables, one_step_sums, square
from bregma.admm.settings import Settings
from bregma.admm.start import uniform_start
from bregma.admm.workers import Workers, total, whereabouts


class RelaxedNetwork:
    """Variables on fixed data; arguments as `bregma.admm.solver.ADMM`."""

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        hidden: Hidden,
        settings: Settings,
        frame_shape: Sequence[int] | None,
        seed: int,
        start: Variables | None,
        workers: Workers,
    ) -> None:
        _check(x, y, settings.constants)
        self.settings, self._workers = settings, workers
        first, samples = whereabouts(workers, x.shape[1])
        self._own, self._samples = slice(first, first + x.shape[1]), samples
        self.constants = replace(settings.constants, ridge=settings.constants.ridge * x.shape[0] * samples)
        self.loss, self.y = LOSSES[settings.loss](), y
        self.generator = torch.Generator().manual_seed(seed)
        self.network = Network.build(hidden, x.shape[2], y.shape[1], frame_shape)
        self.variables = start or uniform_start(
            x, self.network.sizes, self.network.shapes, self.generator, first, samples
        )
        if settings.multipliers == "all":
            self.variables.multipliers = [torch.zeros_like(z) for z in self.variables.membranes]
            self.variables.spike_multipliers = [torch.zeros_like(a) for a in self.variables.spikes]
        self._inputs = presynaptic_inputs(x, self.variables.spikes, self.network.correlations, workers)
        self._fused = x.device.type == "cpu"
        self._scratch: dict[str, Tensor] = {}
        self._steps = len(x)

    def _sums(self, layer: int, shifted: bool = True) -> Tensor:
        """``x + d`` of a layer (T, B, n), in the scratch buffer "sums"."""
        z, multiplier = self.variables.membranes[layer], self.variables.multipliers[layer]
        a = self.variables.spikes[layer] if layer < len(self.variables.spikes) else None
        sums = self._buffer("sums", z.shape)
        if self._fused and a is not None:
            kernels.one_step_sums(*flat(z, a), self.constants.decay, self.constants.threshold, *flat(sums))
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


def flat(*tensors: Tensor) -> tuple[Any, ...]:
    """Arrays (T, N) that share memory with tensors (T, B, n)."""
    return tuple(tensor.view(len(tensor), -1).numpy() for tensor in tensors)


def _check(x: Tensor, y: Tensor, constants: Constants) -> None:
    if x.dtype not in (torch.float32, torch.float64) or y.dtype != x.dtype:
        raise TypeError(f"x and y must both be float32 or both float64, got {x.dtype} and {y.dtype}")
    if x.dim() != 3 or y.dim() != 2 or len(y) != x.shape[1]:
        raise ValueError(f"x must be (T, B, n) and y (B, classes), got shapes {tuple(x.shape)} and {tuple(y.shape)}")
    threshold, raised = x.new_tensor([constants.threshold, constants.threshold + constants.epsilon])
    if not raised > threshold:
        raise ValueError(
            f"epsilon must be large enough for threshold + epsilon > threshold = {constants.threshold} in {x.dtype}, "
            f"got {constants.epsilon}"
        )

"""A trained network for inference alone: compressed weights, spikes as bits, one file."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bregma.dynamics.checks import check_range
from bregma.dynamics.compressed import Connections, Population, bits_of
from bregma.dynamics.delays import delay_kernel, slots_needed
from bregma.nn import DelayedRecurrentLIF, RecurrentLIF
from bregma.nn.chain import Stage, chain
from bregma.sparsity import storage
from bregma.sparsity.liveness import affine
from bregma.sparsity.output import Output

_FRAMES = (torch.uint8, torch.float32, torch.float64)


class SparseNetwork:
    """A network whose zero weights do not exist; made by :func:`compress` or :meth:`load`, called for its scores.

    A spike costs as many additions as it has connections, in the recurrent paths too. It runs on the CPU and has no
    gradients.

    Attributes:
        hidden: the hidden layers.
        output: the readout.

    Shape:
        (T, B, ...) frames of float32, float64, uint8 or bool, whatever the dtype of the weights -> scores (B, classes).

    Example:
        >>> from bregma.nn import SpikingMLP
        >>> small = compress(SpikingMLP(12, hidden=(8,), classes=3))
        >>> small(torch.ones(5, 2, 12, dtype=torch.uint8)).shape
        torch.Size([2, 3])
        >>> small
        SparseNetwork(12-8-3, 120 connections, float32)
    """

    def __init__(self, hidden: tuple[Population, ...], output: Output) -> None:
        self.hidden = hidden
        self.output = output
        check_range("decay", output.decay)
        _check_finite(output.weights, output.bias)
        for layer in hidden:
            check_range("decay", layer.decay)
            check_range("threshold", layer.threshold)
            _check_finite(layer.inputs, layer.own, layer.bias, layer.shape)

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Scores (B, classes) of frames (T, B, ...).

        Raises:
            TypeError: frames of another dtype.
            ValueError: frames of another size, none at all, on another device, or with NaN or infinity.
        """
        x = self._frames(x)
        bits, graded = bits_of(x)
        if graded is not None and not np.isfinite(graded).all():
            raise ValueError("x must be finite, got NaN or infinity")
        for k, layer in enumerate(self.hidden):
            bits = layer.run(bits, graded if k == 0 else None)
        trace, score = self.output.integrators.membranes(bits), self.output.score
        if score == "last":
            return trace[-1].clone()  # a view would keep all steps
        return trace.mean(0) if score == "mean" else trace.softmax(-1).sum(0)

    def _frames(self, x: Tensor) -> Tensor:
        if x.dtype == torch.bool:
            x = x.view(torch.uint8)
        if x.dtype not in _FRAMES:
            raise TypeError(f"x must be frames of float32, float64, uint8 or bool, got {x.dtype}")
        if x.dim() < 3 or 0 in x.shape or math.prod(x.shape[2:]) != self.inputs:
            allowed = f"time-major (T, B, ...) with T, B >= 1 and {self.inputs} values per frame"
            raise ValueError(f"x must be {allowed}, got shape {tuple(x.shape)}")
        if x.device.type != "cpu":
            raise ValueError(f"x must be on the CPU, got {x.device}")
        return x.flatten(2)

    @property
    def inputs(self) -> int:
        """Values per frame."""
        return self.hidden[0].inputs.n_in

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the weights, in which all is computed."""
        return self.output.bias.dtype

    @property
    def connections(self) -> int:
        """How many weights there are."""
        own = [layer.own.count for layer in self.hidden if layer.own is not None]
        return sum(layer.inputs.count for layer in self.hidden) + sum(own) + self.output.weights.count

    def save(self, path: str | Path) -> None:
        """Write one file, in one step: a half-written file is never seen.

        Values are stored in their dtype, places of weights as bytes that count the zeros between them, or as one bit
        per weight where that is shorter. It is a safetensors file: reading it runs no code.
        """
        storage.save(Path(path), self.hidden, self.output)

    @classmethod
    def load(cls, path: str | Path) -> SparseNetwork:
        """Read what `save` has written.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is no such file, or broken.
        """
        return storage.load(Path(path), cls)

    def __repr__(self) -> str:
        sizes = [self.inputs, *(len(layer.bias) for layer in self.hidden), len(self.output.bias)]
        dtype = str(self.dtype).removeprefix("torch.")
        return f"SparseNetwork({'-'.join(map(str, sizes))}, {self.connections} connections, {dtype})"


def _check_finite(*parts: Connections | Tensor | None) -> None:
    """Raise if NaN or infinity is among the weights or constants: a neuron that meets it would fall silent."""
    for part in parts:
        values = part.values if isinstance(part, Connections) else part
        if values is not None and not torch.as_tensor(values).isfinite().all():
            raise ValueError("weights, biases and kernels of delays must be finite, got NaN or infinity")


@torch.no_grad()
def compress(net: nn.Module) -> SparseNetwork:
    """Return a trained network in a form for inference that costs what its connections cost.

    Scores are those of ``net.eval()`` up to rounding; a normalisation becomes part of the weights. It pays below about
    a fifth of the connections, for a single sample at any density; :func:`bregma.compact` first takes out the neurons
    that do not matter.

    Args:
        net: a :class:`bregma.nn.SpikingMLP` or :class:`bregma.nn.DelRec` of float32 or float64; it is not changed, and
            later changes of it do not matter.

    Raises:
        TypeError: another class of network or dtype.
        ValueError: a weight or a bias is NaN or infinite.

    Example:
        >>> import bregma
        >>> from bregma.nn import SpikingMLP
        >>> net = SpikingMLP(12, hidden=(8,), classes=3)
        >>> compress(bregma.compact(net)).connections
        120
    """
    parts = chain(net)
    weight = parts.readout.weight
    if weight.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"net must have weights of float32 or float64, got {weight.dtype}")
    decay = _own(parts.integrators.decay, len(weight), weight)
    bias = weight.new_zeros(len(weight)) if parts.readout.bias is None else parts.readout.bias
    output = Output(Connections.from_weight(weight), _own(bias, len(weight), weight), decay, parts.score)
    return SparseNetwork(tuple(_population(stage) for stage in parts.hidden), output)


def _own(value: Tensor, n: int, like: Tensor) -> Tensor:
    """A constant as one number per neuron, in storage of its own."""
    return value.detach().to(like.dtype).expand(n).clone()


def _population(stage: Stage) -> Population:
    weight, neurons = stage.linear.weight.detach(), stage.neurons
    n = len(weight)
    bias = weight.new_zeros(n) if stage.linear.bias is None else stage.linear.bias.detach()
    if stage.norm is not None:
        scale, shift = affine(stage.norm)
        bias = (scale * bias.double() + shift).to(weight.dtype)
        weight = (scale[:, None] * weight.double()).to(weight.dtype)
    layer = Population(
        Connections.from_weight(weight),
        _own(bias, n, weight),
        None,
        None,
        _own(neurons.decay, n, weight),
        _own(neurons.threshold, n, weight),
        neurons.reset,
        neurons.strict,
    )
    if isinstance(neurons, RecurrentLIF):
        layer = replace(layer, own=Connections.from_weight(neurons.recurrent.weight.detach()))
    if isinstance(neurons, DelayedRecurrentLIF):
        delays, spread = neurons.delays.detach(), neurons.neuron_spread().detach()
        shape = delay_kernel(delays, spread, slots_needed(delays, spread))
        layer = replace(layer, shape=shape.to(weight.dtype))
    return layer

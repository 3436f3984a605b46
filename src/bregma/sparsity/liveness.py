r"""Which neurons of a network matter to its scores: those that can fire and that somebody hears.

The current of neuron k is :math:`I_k[t] = c_k + \sum_j W_{kj} s_j[t] + \sum_j R_{kj} a_j[t]` with spikes
:math:`s \in \{0, 1\}` and arrivals :math:`0 \le a_j \le A_j` (:math:`A_j = 1` without delays, else the sum of the delay
kernel of j). Up to its first spike no reset has acted, so for all four resets the membrane follows
:math:`z[t] = d\, z[t-1] + I[t]` from rest and stays below

.. math:: \sup z \le \max(0, c_k + \sum_j W_{kj}^+ + \sum_j R_{kj}^+ A_j) / (1 - d_k),

the sums over neurons that can fire. A neuron whose bound does not exceed its threshold cannot fire. Neurons that can
are found from nobody upwards, so that a ring of neurons that excite each other but are never started is found silent.
Bounds leave room for rounding: a neuron that is closer to its threshold than that counts as one that can fire.

A neuron without input whose constant current makes it fire in every step gives the layer after it a constant current,
which a bias replaces. All other neurons without input that fire do so on a schedule, which no bias can replace.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bregma.dynamics.delays import delay_kernel, slots_needed
from bregma.nn import DelayedRecurrentLIF, RecurrentLIF
from bregma.nn.chain import Chain, Stage


@dataclass(frozen=True)
class Verdict:
    """What is to stay of each hidden layer.

    Attributes:
        alive: per layer, which neurons stay (n,), bool.
        constant: per layer, which of the others fire in every step and are to be replaced by a bias (n,), bool.
    """

    alive: list[Tensor]
    constant: list[Tensor]


@dataclass(frozen=True)
class _Layer:
    """Numbers of one layer, all in float64.

    ``weight`` (n, m) and ``own`` (n, n) are what reaches the membranes, ``excitation`` and ``own_excitation`` the most
    that a spike can add to a current, ``drive`` (n,) the current without spikes, ``slack`` the share by which rounding
    may lift a membrane.
    """

    weight: Tensor
    own: Tensor
    excitation: Tensor
    own_excitation: Tensor
    drive: Tensor
    decay: Tensor
    threshold: Tensor
    slack: Tensor
    accumulates: bool  # after a reset "subtract" the membrane decays from below the constant current
    has_bias: bool


@torch.no_grad()
def liveness(parts: Chain, *, training: bool = False) -> Verdict:
    """Find the neurons that matter.

    Args:
        parts: the network.
        training: it is to be trained on. Then only neurons go whose removal changes no gradient of the others: those
            that nobody hears, and those without any incoming connection that stay silent.

    Raises:
        ValueError: a weight, a bias, a normalisation or a constant of neurons is NaN or infinite.
    """
    layers = [_layer(stage, first=k == 0, training=training) for k, stage in enumerate(parts.hidden)]
    outlets = [layer.weight for layer in layers[1:]] + [parts.readout.weight.double()]
    hears_bias = [layer.has_bias for layer in layers[1:]] + [parts.readout.bias is not None]
    constants = (x for layer in layers for x in (layer.weight, layer.own, layer.drive, layer.decay, layer.threshold))
    _require_finite([*constants, outlets[-1]])
    alive = [torch.ones(len(layer.drive), dtype=torch.bool) for layer in layers]
    constant = [torch.zeros_like(mask) for mask in alive]
    drives = [layer.drive.clone() for layer in layers]
    while True:
        left = sum(int(mask.sum()) for mask in alive)
        _drop_silent(layers, drives, alive)
        if not training:
            for k in range(len(layers)):
                found = _always_firing(layers, k, drives, alive) & hears_bias[k]
                constant[k] |= found
                alive[k] &= ~found
                if k + 1 < len(layers):
                    drives[k + 1] += outlets[k][:, found].sum(1)
        _drop_unheard(layers, outlets, alive)
        if left == sum(int(mask.sum()) for mask in alive):
            return Verdict(alive, constant)


def _layer(stage: Stage, *, first: bool, training: bool) -> _Layer:
    linear, neurons = stage.linear, stage.neurons
    weight = linear.weight.double()
    n, fan_in = weight.shape
    drive = weight.new_zeros(n) if linear.bias is None else linear.bias.double()
    if stage.norm is not None:
        scale, shift = affine(stage.norm)
        if training:  # over a batch the mean of a constant is itself, and the norm leaves its shift
            drive = torch.maximum(scale * drive + shift, _beta(stage.norm, n))
        else:
            drive, weight = scale * drive + shift, scale[:, None] * weight
    if training:
        drive = drive / (1 - stage.dropout)
    own = neurons.recurrent.weight.double() if isinstance(neurons, RecurrentLIF) else weight.new_zeros(n, n)
    excitation = _without_limit(weight) if training or first else weight.clamp(min=0)
    own_excitation = _without_limit(own) if training else own.clamp(min=0) * _most(neurons)
    decay = neurons.decay.double().expand(n)
    step = torch.finfo(linear.weight.dtype).eps
    return _Layer(
        weight,
        own,
        excitation,
        own_excitation,
        drive,
        decay,
        neurons.threshold.double().expand(n),
        slack=8 * step * (fan_in + n + 1 / (1 - decay).clamp(min=step)),
        accumulates=neurons.reset != "subtract",
        has_bias=linear.bias is not None,
    )


def _without_limit(weight: Tensor) -> Tensor:
    """What unknown inputs can add to a current: anything, where there is a connection."""
    return torch.where(weight != 0, torch.inf, 0.0).double()


def affine(norm: torch.nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """Factor and shift of a normalisation in evaluation, (n,) each."""
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("norm must keep running statistics, got a BatchNorm1d with track_running_stats=False")
    scale = 1 / (norm.running_var.double() + norm.eps).sqrt()
    if norm.affine:
        scale = scale * norm.weight.double()
    return scale, _beta(norm, len(scale)) - scale * norm.running_mean.double()


def _beta(norm: torch.nn.BatchNorm1d, n: int) -> Tensor:
    return norm.bias.double() if norm.affine else torch.zeros(n, dtype=torch.float64)


def _most(neurons: RecurrentLIF | object) -> Tensor:
    """The most that can arrive of each neuron at a time, ``A_j`` in this module's equation."""
    if not isinstance(neurons, DelayedRecurrentLIF):
        return torch.ones((), dtype=torch.float64)
    delays, spread = neurons.delays.double(), neurons.neuron_spread().double()
    return delay_kernel(delays, spread, slots_needed(delays, spread)).sum(0)


def _drop_silent(layers: list[_Layer], drives: list[Tensor], alive: list[Tensor]) -> None:
    """Keep of ``alive``, in place, the neurons that can fire."""
    sources: Tensor | None = None
    for layer, drive, mask in zip(layers, drives, alive, strict=True):
        heard = layer.excitation if sources is None else layer.excitation[:, sources]
        from_before = heard.sum(1)
        firing = torch.zeros_like(mask)
        while True:
            current = drive + from_before + layer.own_excitation[:, firing].sum(1)
            sure = current.clamp(min=0) + layer.slack * (drive.abs() + from_before)
            bound = torch.where(sure > 0, sure / (1 - layer.decay), 0.0)
            now = mask & (bound * (1 + layer.slack) >= layer.threshold)
            if torch.equal(now, firing):
                break
            firing = now
        mask &= firing
        sources = mask


def _always_firing(layers: list[_Layer], k: int, drives: list[Tensor], alive: list[Tensor]) -> Tensor:
    """Neurons of layer k without input that fire in every step and whom their own layer does not hear.

    With a constant current c they do from the first step on if ``c > threshold``; after the reset "subtract" the
    membrane goes to ``(c - threshold) / (1 - decay)``, which must exceed the threshold too.
    """
    layer, mask = layers[k], alive[k]
    inputs = layer.weight if k == 0 else layer.weight[:, alive[k - 1]]
    alone = ~(inputs != 0).any(1) & ~(layer.own[:, mask] != 0).any(1) & ~(layer.own[mask] != 0).any(0)
    needed = layer.threshold * (1.0 if layer.accumulates else 2 - layer.decay)
    return mask & alone & (drives[k] > needed * (1 + layer.slack))


def _drop_unheard(layers: list[_Layer], outlets: list[Tensor], alive: list[Tensor]) -> None:
    """Keep of ``alive``, in place, the neurons from which a path leads to the scores."""
    targets: Tensor | None = None
    for layer, outlet, mask in zip(reversed(layers), reversed(outlets), reversed(alive), strict=True):
        heard = ((outlet if targets is None else outlet[targets]) != 0).any(0) & mask
        while True:
            more = mask & (heard | (layer.own[heard] != 0).any(0))
            if torch.equal(more, heard):
                break
            heard = more
        mask &= heard
        targets = mask


def _require_finite(tensors: list[Tensor]) -> None:
    if not all(bool(tensor.isfinite().all()) for tensor in tensors):
        raise ValueError("net must have finite weights, biases, norms, decays and thresholds, got NaN or infinity")

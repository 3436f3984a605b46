"""The networks of DelRec, with learned axonal delays in their recurrent paths, for SHD, SSC and permuted MNIST.

A. Queant, U. Rancon, B. Cottereau, T. Masquelier, "DelRec: learning delays in recurrent spiking neural networks",
arXiv 2509.24852; arXiv 2603.16462 trains them with linearized Bregman iterations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bregma.dynamics import ATan, Reset, Surrogate, Triangle
from bregma.nn.delayed import DelayedRecurrentLIF
from bregma.nn.layers import LIF, Readout


@dataclass(frozen=True)
class Architecture:
    """What a DelRec network is made of.

    Attributes:
        inputs: values per frame.
        hidden: neurons of each hidden layer.
        classes: number of classes.
        delayed: which hidden layers are recurrent with delays.
        decay: of all membranes, ``1 - 1 / tau``.
        reset: see `LIF`.
        detach_reset: see `LIF`.
        surrogate: see `LIF`.
        norm: batch normalisation, over time and batch, of each hidden layer's current.
        dropout: of each hidden layer, see ``drop_spikes``.
        drop_spikes: dropout acts on the spikes; otherwise on the current that drives them.
        recurrent_dropout: of the recurrent current.
        learn_spread: see `DelayedRecurrentLIF`.
        delays: range of uniform first delays; None for ``|N(0, 12)|``.
        leaky_readout: the readout is a leaky integrator whose softmax is summed over time; otherwise one that does not
            leak, whose last membrane counts.
        kaiming: feed-forward weights start as Kaiming et al. for ReLU; otherwise as torch does.
    """

    inputs: int
    hidden: tuple[int, ...]
    classes: int
    delayed: tuple[bool, ...]
    decay: float
    reset: Reset
    detach_reset: bool
    surrogate: Surrogate
    norm: bool
    dropout: float
    drop_spikes: bool
    recurrent_dropout: float
    learn_spread: bool
    delays: tuple[float, float] | None
    leaky_readout: bool
    kaiming: bool


_SHD = Architecture(
    inputs=140,
    hidden=(256, 256),
    classes=20,
    delayed=(False, True),
    decay=1 - 1 / 1.05,
    reset="zero",
    detach_reset=True,
    surrogate=ATan(alpha=5.0),
    norm=True,
    dropout=0.4,
    drop_spikes=True,
    recurrent_dropout=0.2,
    learn_spread=False,
    delays=(10.0, 30.0),
    leaky_readout=True,
    kaiming=True,
)
_SSC = Architecture(
    inputs=140,
    hidden=(256, 256, 256),
    classes=35,
    delayed=(True, True, True),
    decay=0.5,
    reset="subtract_decayed",
    detach_reset=False,
    surrogate=Triangle(),
    norm=False,
    dropout=0.1,
    drop_spikes=False,
    recurrent_dropout=0.3,
    learn_spread=True,
    delays=None,
    leaky_readout=False,
    kaiming=False,
)
_PSMNIST = replace(_SSC, inputs=1, hidden=(64, 212, 212), classes=10, recurrent_dropout=0.2)

#: The published networks by data set.
ARCHITECTURES: dict[str, Architecture] = {"shd": _SHD, "ssc": _SSC, "psmnist": _PSMNIST}


def delrec(name: str) -> DelRec:
    """Return the DelRec network for a data set, untrained.

    ``"shd"``: 140-256-256-20, the second hidden layer delayed, 173,844 parameters; ``"ssc"``: 140-256-256-256-35, all
    delayed, 374,819; ``"psmnist"``: 1-64-212-212-10, all delayed, 156,154. SHD and SSC come as counts of spikes, 5
    neighbouring channels of the 700 added up, one frame per 10 ms and per 5.6 ms.

    Args:
        name: ``"shd"``, ``"ssc"`` or ``"psmnist"``.

    Raises:
        ValueError: another name.

    Example:
        >>> net = delrec("psmnist")
        >>> sum(p.numel() for p in net.parameters())
        156154
        >>> net(torch.rand(8, 2, 1)).shape
        torch.Size([2, 10])
    """
    if name not in ARCHITECTURES:
        raise ValueError(f"name must be one of {', '.join(ARCHITECTURES)}, got {name!r}")
    return DelRec(ARCHITECTURES[name])


class DelRec(nn.Module):
    """Dense layers and LIF neurons, some of them recurrent with learned axonal delays.

    Dropout draws one mask per sample and neuron for all time steps.

    Training, as published: weights and delays are two groups of one optimiser, the delays with a learning rate of
    5e-2, ``bregma.param_groups(net, rates={"*.delays": 5e-2, "*.p_spread": 5e-2})``; the spread shrinks from epoch to
    epoch (`set_spread`, `bregma.dynamics.spread_at`); delays are clamped after each step (`clamp_delays_`) and rounded
    for inference (`round_delays_`). Unlike in the published code, the spread is saved with the weights, and nothing
    rounds delays during training. ``bregma train --config delrec_shd`` (or ``_ssc``, ``_psmnist``) does all of it.

    Args:
        architecture: what it is made of; :func:`delrec` has the published ones.

    Shape:
        (T, B, ...), frames with ``inputs`` values -> logits (B, classes), for ``cross_entropy``.

    Raises:
        ValueError: ``delayed`` does not say as many layers as ``hidden``, sizes below one, or an input that does not
            flatten to ``inputs`` values.
        TypeError: an input of integers.

    Example:
        >>> import dataclasses
        >>> small = dataclasses.replace(ARCHITECTURES["shd"], hidden=(8, 8))
        >>> DelRec(small)(torch.rand(5, 2, 140)).shape
        torch.Size([2, 20])
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        a = architecture
        if not a.hidden or len(a.delayed) != len(a.hidden):
            raise ValueError(f"delayed must say as many layers as hidden, got {a.delayed} for {a.hidden}")
        if min(a.inputs, *a.hidden, a.classes) < 1:
            raise ValueError(f"inputs, hidden and classes must be >= 1, got {a.inputs}, {a.hidden}, {a.classes}")
        self.architecture = a
        fan_ins = (a.inputs, *a.hidden)
        self.hidden = nn.ModuleList(
            _HiddenLayer(a, fan_in, size, delayed)
            for fan_in, size, delayed in zip(fan_ins, a.hidden, a.delayed, strict=False)
        )
        self.readout = _dense(a, a.hidden[-1], a.classes)
        self.integrators = Readout(a.decay if a.leaky_readout else 1.0)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes) of frames (T, B, inputs)."""
        if not x.is_floating_point():
            raise TypeError(f"x must be floating-point frames, got {x.dtype}")
        if x.dim() < 3 or math.prod(x.shape[2:]) != self.architecture.inputs or 0 in x.shape:
            raise ValueError(f"x must be (T, B, {self.architecture.inputs}) with T, B >= 1, got shape {tuple(x.shape)}")
        x = x.flatten(2)
        for layer in self.hidden:
            x = layer(x)
        scores: Tensor
        scores, _ = self.integrators(self.readout(x))
        return scores.softmax(-1).sum(0) if self.architecture.leaky_readout else scores[-1]

    def delayed_layers(self) -> list[DelayedRecurrentLIF]:
        """Return the layers with delays."""
        return [module for module in self.modules() if isinstance(module, DelayedRecurrentLIF)]

    def set_spread(self, spread: float) -> None:
        """Set the spread of all delays; see `DelayedRecurrentLIF.set_spread`."""
        for layer in self.delayed_layers():
            layer.set_spread(spread)

    def clamp_delays_(self) -> None:
        """Bring all delays back into their range; to be called after each step of an optimiser."""
        for layer in self.delayed_layers():
            layer.clamp_delays_()

    def round_delays_(self) -> None:
        """Make all delays whole and their spread zero, for inference; in place."""
        for layer in self.delayed_layers():
            layer.round_delays_()


class _HiddenLayer(nn.Module):
    """Dense layer, normalisation, dropout, neurons: (T, B, inputs) -> spikes (T, B, n)."""

    def __init__(self, a: Architecture, fan_in: int, size: int, delayed: bool) -> None:
        super().__init__()
        self.linear = _dense(a, fan_in, size)
        self.norm = nn.BatchNorm1d(size) if a.norm else None
        neuron: dict[str, Any] = {
            "reset": a.reset,
            "strict": False,  # at threshold a neuron fires
            "detach_reset": a.detach_reset,
            "surrogate": a.surrogate,
        }
        self.neurons: LIF
        if delayed:
            self.neurons = DelayedRecurrentLIF(
                size, a.decay, learn_spread=a.learn_spread, dropout=a.recurrent_dropout, **neuron
            )
            if a.delays is not None:
                nn.init.uniform_(self.neurons.delays, *a.delays)
        else:
            self.neurons = LIF(a.decay, **neuron)
        self.dropout = a.dropout
        self.drop_spikes = a.drop_spikes

    def forward(self, x: Tensor) -> Tensor:
        current: Tensor = self.linear(x)
        if self.norm is not None:
            current = self.norm(current.flatten(0, 1)).view_as(current)
        if self.drop_spikes:
            return self._drop(self.neurons(current)[0])
        spikes: Tensor = self.neurons(self._drop(current))[0]
        return spikes

    def _drop(self, x: Tensor) -> Tensor:
        if not self.training or not self.dropout:
            return x
        return x * F.dropout(torch.ones_like(x[:1]), self.dropout)

    def extra_repr(self) -> str:
        """What `print` shows of the layer."""
        return f"dropout={self.dropout} of the {'spikes' if self.drop_spikes else 'current'}"


def _dense(a: Architecture, fan_in: int, fan_out: int) -> nn.Linear:
    linear = nn.Linear(fan_in, fan_out)
    if a.kaiming:
        nn.init.kaiming_uniform_(linear.weight, nonlinearity="relu")
    return linear

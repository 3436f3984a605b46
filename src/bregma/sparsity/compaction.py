"""Make a sparse network smaller: without the neurons that cannot matter, and with the same scores."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from bregma.nn import DelayedRecurrentLIF, DelRec, RecurrentLIF
from bregma.nn.chain import Chain, Stage, chain
from bregma.sparsity.carry import Moves, carry_over, check_optimizer
from bregma.sparsity.liveness import Verdict, liveness

Net = TypeVar("Net", bound=nn.Module)


@torch.no_grad()
def compact(net: Net, optimizer: Optimizer | None = None) -> Net:
    """Return the network without the neurons that cannot matter to its scores.

    What goes: neurons that nobody hears (all outgoing weights zero, or heard only by neurons that go), neurons that
    cannot fire (the largest membrane that their incoming weights and bias allow does not exceed the threshold; see
    `bregma.sparsity.liveness` for the bound), and neurons without input that fire in every step, whose constant
    contribution becomes part of the biases of the next layer. Neurons without input that fire on a slower schedule
    stay, and so do constant ones that their own layer hears or whose next layer has no bias: what they contribute
    changes with time. The last neuron of a layer stays, with its outgoing weights set to zero. Inputs stay too, heard
    or not, so that the data still fit.

    Scores of evaluation are those of ``net`` up to the order of summation, in any dtype.

    Args:
        net: a :class:`bregma.nn.SpikingMLP` or :class:`bregma.nn.DelRec`; it is not changed.
        optimizer: whatever moves the parameters of ``net``. From here on it moves those of the network returned, in
            place, with its state: of every tensor in the shape of a parameter the entries of what stays. A
            :class:`bregma.TargetDensity` that rides on it, or a baseline, comes along, with its mask and dual and as
            many connections to reach. Then only neurons go without which the gradients of all others stay as they
            are: those that nobody hears, and silent ones without any incoming connection. Training goes on exactly as
            that of ``net`` with the parameters of the lost neurons held where they are (dropout draws other masks; a
            penalty on rows, columns or singular values no longer sees the duals of lost weights; before a
            TargetDensity has frozen its mask, lost weights can no longer come back).

    Returns:
        A network of the same class.

    Raises:
        TypeError: another class of network.
        ValueError: weights, biases or constants that are NaN or infinite; weights shared between layers or computed
            from others; an optimizer that holds no parameter of ``net``, or state that no one knows how to cut.

    Example:
        >>> from bregma.nn import SpikingMLP
        >>> net = SpikingMLP(12, hidden=(8,), classes=3)
        >>> _ = net.readout.linear.weight.data[:, :6].zero_()  # nobody hears the first six neurons
        >>> compact(net).hidden[0].linear
        SpikeLinear(in_features=12, out_features=2, bias=True)
    """
    parts = chain(net)
    _check_parameters(net)
    verdict = liveness(parts, training=optimizer is not None)
    small = copy.deepcopy(net)
    moves: Moves = {old: (new, None) for old, new in zip(net.parameters(), small.parameters(), strict=True)}
    if optimizer is not None:
        check_optimizer(optimizer, moves)
    _fold(chain(small), verdict)
    cut = _Cut()
    _shrink(chain(small), verdict, cut)
    if isinstance(small, DelRec):
        sizes = tuple(stage.linear.out_features for stage in chain(small).hidden)
        small.architecture = replace(small.architecture, hidden=sizes)
    if optimizer is not None:
        carry_over(optimizer, {old: cut.made.get(new, (new, None)) for old, (new, _) in moves.items()})
    return small


class _Cut:
    """Takes parts of a network's tensors and remembers which: copied parameter -> (its successor, entries kept)."""

    def __init__(self) -> None:
        self.made: Moves = {}

    def __call__(self, module: nn.Module, name: str, *kept: Tensor | None) -> None:
        """Replace a tensor of ``module`` by the entries ``kept`` along each dimension (None: all of them)."""
        before: Tensor | None = getattr(module, name)
        if before is None or before.dim() < len(kept):  # a constant () holds for all neurons
            return
        places = torch.arange(before.numel(), device=before.device).view(before.shape)
        for dim, index in enumerate(kept):
            if index is not None:
                places = places.index_select(dim, index.to(before.device))
        after = before.detach().flatten()[places]
        if isinstance(before, nn.Parameter):
            after = nn.Parameter(after, requires_grad=before.requires_grad)
            self.made[before] = after, places
        setattr(module, name, after)


def _fold(parts: Chain, verdict: Verdict) -> None:
    """Add to the biases, in place, what neurons that fire in every step contribute."""
    for (_, heard_by), found in zip(parts.links(), verdict.constant, strict=True):
        if bool(found.any()):
            heard_by.bias.add_(heard_by.weight[:, found].double().sum(1).to(heard_by.bias.dtype))


def _shrink(parts: Chain, verdict: Verdict, cut: _Cut) -> None:
    inputs: Tensor | None = None
    for (stage, heard_by), alive in zip(parts.links(), verdict.alive, strict=True):
        if not bool(alive.any()):  # a layer without neurons is none: one stays, unheard
            alive = torch.arange(len(alive)) == 0
            heard_by.weight[:, alive] = 0.0
        kept = alive.nonzero().squeeze(1)
        cut(stage.linear, "weight", kept, inputs)
        cut(stage.linear, "bias", kept)
        _shrink_neurons(stage, kept, cut)
        stage.linear.out_features = len(kept)
        if inputs is not None:
            stage.linear.in_features = len(inputs)
        inputs = kept
    cut(parts.readout, "weight", None, inputs)
    parts.readout.in_features = len(inputs) if inputs is not None else parts.readout.in_features


def _shrink_neurons(stage: Stage, kept: Tensor, cut: _Cut) -> None:
    """Norm, constants, recurrent weights and delays of one layer."""
    if stage.norm is not None:
        for name in ("weight", "bias", "running_mean", "running_var"):
            cut(stage.norm, name, kept)
        stage.norm.num_features = len(kept)
    neurons = stage.neurons
    for name in ("decay", "threshold"):
        cut(neurons, name, kept)
    if isinstance(neurons, RecurrentLIF):
        cut(neurons.recurrent, "weight", kept, kept)
        neurons.recurrent.in_features = neurons.recurrent.out_features = len(kept)
    if isinstance(neurons, DelayedRecurrentLIF):
        for name in ("delays", "p_spread"):
            cut(neurons, name, kept)


def _check_parameters(net: nn.Module) -> None:
    """Raise if a weight is not a parameter of its own."""
    names: dict[int, str] = {}
    for name, p in net.named_parameters(remove_duplicate=False):
        if id(p) in names:
            raise ValueError(f"net must not share parameters, got {names[id(p)]} = {name}")
        names[id(p)] = name
    for name, module in net.named_modules():
        if isinstance(module, nn.Linear) and not isinstance(module._parameters.get("weight"), nn.Parameter):
            raise ValueError(
                f"net must have plain weights, but {name}.weight is computed from others; make it permanent"
            )

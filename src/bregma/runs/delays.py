"""What is special about training a network with learned delays: two learning rates, a spread that shrinks, rounding."""

import copy
from typing import TypeVar

import torch
from torch import nn

from bregma.dynamics import spread_at
from bregma.nn.delrec import DelRec

Net = TypeVar("Net", bound=nn.Module)


def delay_rates(net: nn.Module, lr: float) -> dict[str, float]:
    """Learning rates by full name, as `bregma.param_groups` takes them, of delays and learned spreads.

    Example:
        >>> from bregma.nn.models import delrec
        >>> delay_rates(delrec("shd"), 5e-2)
        {'hidden.1.neurons.delays': 0.05}
    """
    return {name: lr for name, _ in net.named_parameters() if name.endswith((".delays", ".p_spread"))}


def begin_step(net: nn.Module, done: float) -> None:
    """Set the spread of a network with delays to that of a stage of its training, ``done`` in [0, 1]."""
    if isinstance(net, DelRec):
        net.set_spread(spread_at(done))


def end_step(net: nn.Module) -> None:
    """Bring the delays that an optimiser moved back into their range."""
    if isinstance(net, DelRec):
        net.clamp_delays_()


@torch.no_grad()
def round_while_training(net: nn.Module) -> None:
    """Round the delays in place and leave the spread, as DelRec's published code does before each validation."""
    if isinstance(net, DelRec):
        for layer in net.delayed_layers():
            layer.delays.round_()
        net.clamp_delays_()


def for_inference(net: Net) -> Net:
    """The network as a chip would run it: a copy with whole delays and no spread, or itself if it has no delays."""
    if not isinstance(net, DelRec):
        return net
    rounded = copy.deepcopy(net)
    rounded.round_delays_()
    return rounded

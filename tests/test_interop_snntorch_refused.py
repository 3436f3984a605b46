"""What cannot go to snnTorch, or come from it, is refused in one line that says why."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

from bregma.nn import LIF, Readout, SpikingSequential

snn = pytest.importorskip("snntorch")
from bregma.interop.snntorch import from_snntorch, to_snntorch  # noqa: E402

REFUSED = {
    "subtract_decayed": lambda: to_snntorch(SpikingSequential(nn.Linear(2, 2), LIF(reset="subtract_decayed"))),
    "GELU": lambda: to_snntorch(SpikingSequential(nn.Linear(2, 2), nn.GELU())),
    "must be the last": lambda: to_snntorch(SpikingSequential(Readout(), LIF())),
    "one decay": lambda: to_snntorch(SpikingSequential(nn.Conv2d(1, 1, 1), LIF(torch.full((4,), 0.5)))),
    "one threshold": lambda: to_snntorch(SpikingSequential(nn.Conv2d(1, 1, 1), LIF(0.5, torch.ones(4)))),
    "got LSTM": lambda: to_snntorch(nn.LSTM(1, 1)),
    "reset_delay=False": lambda: from_snntorch(nn.Sequential(snn.Leaky(0.5, reset_delay=False))),
    "throws away": lambda: from_snntorch(nn.Sequential(snn.RLeaky(0.5, linear_features=2, reset_mechanism="zero"))),
    "0: bregma has no layer like Synaptic": lambda: from_snntorch(nn.Sequential(snn.Synaptic(0.5, 0.5))),
    "state_quant": lambda: from_snntorch(nn.Sequential(snn.Leaky(0.5, state_quant=lambda x: x))),
    "graded_spikes": lambda: from_snntorch(nn.Sequential(snn.Leaky(0.5, graded_spikes_factor=2.0))),
    "order must name": lambda: from_snntorch(nn.LSTM(1, 1)),
    "spike_grad must step": lambda: from_snntorch(nn.Sequential(snn.Leaky(0.5, spike_grad=torch.sigmoid))),
    "learnable": lambda: from_snntorch(nn.Sequential(snn.Leaky(0.5, learn_beta=True)), share=True),
    "recurrent convolutions": lambda: from_snntorch(
        nn.Sequential(snn.RLeaky(0.5, conv2d_channels=2, kernel_size=3), nn.Flatten())
    ),
    "scalar V": lambda: from_snntorch(nn.Sequential(snn.RLeaky(0.5, all_to_all=False, V=0.5))),
    "that can take it": lambda: from_snntorch(nn.Sequential(snn.RLeaky(0.5, linear_features=2))),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_held_is_named(words):
    with pytest.raises((ValueError, TypeError), match=words):
        REFUSED[words]()


def test_inhibition_is_refused():
    with pytest.warns(UserWarning, match="Inhibition"):
        peer = nn.Sequential(snn.Leaky(0.5, inhibition=True))
    with pytest.raises(ValueError, match="0: bregma has no inhibition"):
        from_snntorch(peer)


def test_layers_that_would_have_one_name_are_refused():
    layers = OrderedDict(a=nn.Sequential(OrderedDict(b=nn.Linear(2, 2))), a_b=nn.Linear(2, 2))
    with pytest.raises(ValueError, match="different names, got 'a_b' twice"):
        from_snntorch(nn.Sequential(layers))
    net = nn.Module()
    for name, layer in layers.items():
        net.add_module(name, layer)
    with pytest.raises(ValueError, match="a_b: another layer would be called a_b too"):
        from_snntorch(net, order=["a", "a_b"])

"""To snnTorch and back, with the same spikes.

===================== ============================================================ ====================================
bregma                snnTorch 1.0                                                 remarks
===================== ============================================================ ====================================
``LIF``, subtract     ``Leaky(reset_mechanism="subtract", reset_delay=True)``      its default
``LIF``, zero         ``Leaky(reset_mechanism="zero")``                            with any ``reset_delay``
``LIF``, none         ``Leaky(reset_mechanism="none")``
``RecurrentLIF``      ``RLeaky(linear_features=n)`` with the bias kept at zero     zero: ``reset_delay=False``
``Readout``           ``Leaky(reset_mechanism="none")``, its membrane
``subtract_decayed``  refused: a delay of 0 in snnTorch subtracts once too often
                      while the membrane stays above threshold
delays                refused: version 1.0 has none
===================== ============================================================ ====================================

``strict=False`` and surrogates that snnTorch lacks travel as its ``spike_grad``. snnTorch detaches the reset by
subtraction from the gradient, as layers with ``detach_reset=True`` do; spikes do not depend on it.

"The same spikes" holds for the same arithmetic. Both sum the same terms, but products of matrices and the recurrent
current may be rounded in another order, so a float32 membrane within rounding of its threshold can fire in one library
only. In float64, or where the sums are exact, spikes are equal bit for bit.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bregma.interop.chain import Network, as_sequential
from bregma.interop.from_snntorch import read_layers
from bregma.interop.libraries import library
from bregma.interop.surrogates import to_step
from bregma.nn import LIF, DelayedRecurrentLIF, Readout, RecurrentLIF, Score, SpikingSequential

_MAPS = (nn.Conv2d, nn.BatchNorm2d, nn.AvgPool2d, nn.MaxPool2d)
_PLAIN = (*_MAPS, nn.BatchNorm1d, nn.Flatten, nn.Dropout, nn.Identity)


def to_snntorch(net: Network, *, share: bool = False) -> nn.Sequential:
    """A network of this package as snnTorch's neurons in an ``nn.Sequential``.

    Call it once per time step with frames (B, ...), or `run` it over a sequence. Its neurons keep their state
    (``init_hidden=True``); the last returns spikes and membrane, of which the membrane is a readout's score.

    Args:
        net: what `bregma.interop.chain.as_sequential` takes. Batch normalisation must be in evaluation to compute the
            same, since snnTorch sees one time step at a time.
        share: use the parameters of ``net`` itself, so that what trains one trains the other; otherwise copies.

    Returns:
        The network.

    Raises:
        ValueError: a layer that snnTorch cannot hold; the message names it and says why.
        TypeError: a network or layer of a kind that is not known here.

    Example:
        >>> from bregma.nn import SpikingMLP
        >>> net = SpikingMLP(6, hidden=(4,), classes=2, recurrent=True)
        >>> [type(layer).__name__ for layer in to_snntorch(net)]
        ['Flatten', 'Linear', 'RLeaky', 'Linear', 'Leaky']
    """
    chain = as_sequential(net)
    snn = library("snntorch", "snntorch")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    maps = False
    last = len(chain) - 1
    for index, (name, module) in enumerate(chain.named_children()):
        if isinstance(module, nn.Linear) and (maps or index == 0):
            layers[f"{name}_flatten"] = nn.Flatten()
        if isinstance(module, LIF | Readout):
            layers[name] = _neurons(name, module, maps, share, index == last, snn)
        elif isinstance(module, nn.Linear):
            layers[name] = _dense(module, share)
        elif isinstance(module, _PLAIN):
            layers[name] = module if share else copy.deepcopy(module)
        else:
            raise TypeError(f"{name}: {type(module).__name__} is not a layer that goes to snnTorch")
        maps = isinstance(module, _MAPS) or (maps and not isinstance(module, nn.Linear | nn.Flatten))
    return nn.Sequential(layers).train(chain.training)


def from_snntorch(
    net: nn.Module, *, order: Sequence[str] | None = None, score: Score | None = None, share: bool = False
) -> SpikingSequential:
    """A network of snnTorch's ``Leaky`` and ``RLeaky`` neurons as one of this package.

    A last neuron without reset becomes a `Readout`, whose membrane is the output. ``RLeaky`` with one weight per neuron
    (``all_to_all=False``) becomes a diagonal matrix, and the bias of its recurrent layer moves to the layer before.
    Learnable ``beta`` and ``threshold`` become constants.

    Args:
        net: an ``nn.Sequential``, or any module whose submodules are called one after another.
        order: names of the submodules in the order in which ``net`` calls them; needed unless it is an
            ``nn.Sequential``.
        score: see `SpikingSequential`.
        share: use the parameters of ``net`` itself; otherwise copies.

    Returns:
        The network: the same spikes from frames (T, B, ...).

    Raises:
        ValueError: an option of a neuron without equal here; the message names it and says why.
        TypeError: a layer of a kind that is not known here, or no ``order``.

    Example:
        >>> import snntorch
        >>> peer = nn.Sequential(nn.Linear(6, 4), snntorch.Leaky(beta=0.5, init_hidden=True))
        >>> from_snntorch(peer)
        SpikingSequential(
          (0): Linear(in_features=6, out_features=4, bias=True)
          (1): LIF(decay=0.5, threshold=1, reset='subtract', detach_reset=True, surrogate=ATan(alpha=2.0))
        )
    """
    return SpikingSequential(read_layers(net, order, share, library("snntorch", "snntorch")), score=score)


def run(net: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Run a network of `to_snntorch` over a sequence, from rest.

    Args:
        net: a module whose neurons keep their state and whose last one has ``output=True``.
        x: frames (T, B, ...).

    Returns:
        Spikes and membranes of the last neurons, (T, B, n) each.

    Example:
        >>> from bregma.nn import SpikingMLP
        >>> spikes, membranes = run(to_snntorch(SpikingMLP(6, hidden=(4,), classes=2)), torch.rand(5, 3, 6))
        >>> membranes.shape
        torch.Size([5, 3, 2])
    """
    neuron = library("snntorch", "snntorch").SpikingNeuron
    for module in net.modules():
        if isinstance(module, neuron):
            module.reset_mem()
    outputs = [net(frame) for frame in x.unbind(0)]
    return torch.stack([spikes for spikes, _ in outputs]), torch.stack([membrane for _, membrane in outputs])


def _dense(module: nn.Linear, share: bool) -> nn.Linear:
    """A plain ``nn.Linear``; `SpikeLinear` is one whose products are computed in another way."""
    peer = nn.Linear(module.in_features, module.out_features, module.bias is not None, device="meta")
    peer.load_state_dict(_tensors(module, share), assign=True)
    return peer


def _tensors(module: nn.Module, share: bool) -> dict[str, Tensor]:
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    if share:
        return dict(tensors)
    return {name: copy.deepcopy(tensor) for name, tensor in tensors.items()}


def _neurons(name: str, module: LIF | Readout, maps: bool, share: bool, last: bool, snn: Any) -> Any:
    decay = module.decay if share else module.decay.clone()
    if maps and (module.decay.dim() or isinstance(module, RecurrentLIF)):
        raise ValueError(f"{name}: after a convolution snnTorch takes neurons with one decay, not recurrent")
    common = {"beta": decay, "init_hidden": True, "output": last}
    if isinstance(module, Readout):
        if not last:
            raise ValueError(f"{name}: a Readout must be the last layer for snnTorch, which passes on spikes")
        return snn.Leaky(**common, reset_mechanism="none")
    if maps and module.threshold.dim():
        raise ValueError(f"{name}: after a convolution snnTorch takes neurons with one threshold")
    if module.reset == "subtract_decayed":
        raise ValueError(
            f"{name}: snnTorch has no reset 'subtract_decayed'; its nearest, subtract with reset_delay=False, fires "
            "and resets otherwise while a membrane stays above threshold after a spike"
        )
    common |= {
        "threshold": module.threshold if share else module.threshold.clone(),
        "reset_mechanism": module.reset,
        "spike_grad": to_step(module.surrogate, module.strict, module.decay.dtype, snn.surrogate),
    }
    if not isinstance(module, RecurrentLIF):
        return snn.Leaky(**common, reset_delay=module.reset != "zero" or module.detach_reset)
    if isinstance(module, DelayedRecurrentLIF):
        _require_no_delays(name, module)
    size = module.recurrent.in_features
    # with reset_delay=True and a reset to zero RLeaky throws away the input of the step after a spike
    peer = snn.RLeaky(**common, linear_features=size, reset_delay=module.reset != "zero")
    weight = module.recurrent.weight
    peer.recurrent.weight = weight if share else copy.deepcopy(weight)
    peer.recurrent.bias = nn.Parameter(torch.zeros_like(weight[0]), requires_grad=False)
    return peer


def _require_no_delays(name: str, module: DelayedRecurrentLIF) -> None:
    if bool((module.delays != 0).any()) or bool((module.neuron_spread() != 0).any()):
        raise ValueError(f"{name}: snnTorch 1.0 has no axonal delays; NIR has, see bregma.interop.nir")

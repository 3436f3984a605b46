"""Reading a network of snnTorch, layer by layer; see `bregma.interop.snntorch.from_snntorch`."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bregma.dynamics import Reset
from bregma.interop.chain import dense, each_place
from bregma.interop.surrogates import from_step
from bregma.nn import LIF, Readout, RecurrentLIF

_PLAIN = (
    nn.Linear,
    nn.Conv2d,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.AvgPool2d,
    nn.MaxPool2d,
    nn.Flatten,
    nn.Dropout,
    nn.Identity,
)


def read_layers(net: nn.Module, order: Sequence[str] | None, share: bool, snn: Any) -> OrderedDict[str, nn.Module]:
    """The layers of a network of snnTorch as layers of this package, by the same names (dots become ``_``)."""
    named = _in_order(net, order)
    module: Any
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for index, (name, module) in enumerate(named):
        key = name.replace(".", "_")
        if key in layers:
            raise ValueError(f"{name}: another layer would be called {key} too, as dots become _")
        if type(module) in (snn.Leaky, snn.RLeaky):
            _check(name, module, share, snn)
            if index == len(named) - 1 and type(module) is snn.Leaky and module.reset_mechanism == "none":
                layers[key] = Readout(_constant(module.beta.clamp(0, 1), share))
            elif type(module) is snn.Leaky:
                layers[key] = LIF(**_options(name, module, share))
            else:
                layers[key] = _recurrent(name, module, share, layers)
        elif isinstance(module, _PLAIN):
            layers[key] = module if share else copy.deepcopy(module)
        else:
            raise TypeError(f"{name}: bregma has no layer like {type(module).__name__}")
    return layers


def _in_order(net: nn.Module, order: Sequence[str] | None) -> list[tuple[str, nn.Module]]:
    """The layers of a network with their names, nested sequences opened."""
    if order is not None:
        top = [(name, net.get_submodule(name)) for name in order]
    elif isinstance(net, nn.Sequential):
        top = list(each_place(net).items())
    else:
        raise TypeError(f"order must name the layers in the order of their calls, for a {type(net).__name__}")
    named = []
    for name, module in top:
        if isinstance(module, nn.Sequential):
            named += [(f"{name}.{inner}", layer) for inner, layer in _in_order(module, None)]
        else:
            named.append((name, module))
    return named


def _check(name: str, module: Any, share: bool, snn: Any) -> None:
    """Refuse what a neuron of this package cannot do."""
    if module.inhibition:
        raise ValueError(f"{name}: bregma has no inhibition=True, by which only the highest neuron fires")
    if module.state_quant:
        raise ValueError(f"{name}: bregma has no state_quant, a quantised membrane")
    if module.graded_spikes_factor.ne(1).any():
        raise ValueError(f"{name}: spikes of bregma are 0 or 1, got graded_spikes_factor != 1")
    if module.reset_mechanism == "subtract" and not module.reset_delay:
        raise ValueError(
            f"{name}: bregma has no reset of 'subtract' with reset_delay=False, by which a membrane that stays above "
            "threshold is reset again without a spike; the nearest is 'subtract_decayed'"
        )
    if type(module) is snn.RLeaky and module.reset_mechanism == "zero" and module.reset_delay:
        raise ValueError(
            f"{name}: RLeaky with reset_mechanism='zero' and reset_delay=True throws away the input of the step after "
            "a spike, which no reset of bregma does; with reset_delay=False it is 'zero'"
        )
    if share and any(isinstance(getattr(module, key), nn.Parameter) for key in ("beta", "threshold")):
        raise ValueError(f"{name}: learnable beta and threshold cannot be shared, they are constants in bregma")


def _options(name: str, module: Any, share: bool) -> dict[str, Any]:
    surrogate, strict = from_step(module.spike_grad, name)
    reset: Reset = module.reset_mechanism
    return {
        "decay": _constant(module.beta.clamp(0, 1), share),
        "threshold": _constant(module.threshold, share),
        "reset": reset,
        "strict": strict,
        "detach_reset": bool(module.reset_delay),
        "surrogate": surrogate,
    }


def _constant(value: Tensor, share: bool) -> Tensor:
    """A constant as layers of this package take it: one element is a number."""
    value = value.detach()
    value = value.reshape(()) if value.numel() == 1 else value
    return value.to(torch.get_default_dtype()) if not value.is_floating_point() else value


def _recurrent(name: str, module: Any, share: bool, before: OrderedDict[str, nn.Module]) -> RecurrentLIF:
    recurrent = module.recurrent
    if isinstance(recurrent, nn.Conv2d):
        raise ValueError(f"{name}: recurrent convolutions have no equal in bregma")
    previous = next(reversed(before.values()), None)
    if isinstance(recurrent, nn.Linear):
        weight = recurrent.weight
    else:
        if share:
            raise ValueError(f"{name}: one weight per neuron (all_to_all=False) cannot be shared with a matrix")
        if recurrent.V.dim() == 0 and not isinstance(previous, nn.Linear):
            raise ValueError(f"{name}: a scalar V needs an nn.Linear before it, that says how many neurons there are")
        size = previous.out_features if isinstance(previous, nn.Linear) else len(recurrent.V)
        weight = nn.Parameter(torch.diag(recurrent.V.detach().expand(size)))
    layer = RecurrentLIF(weight.shape[0], **_options(name, module, share))
    layer.recurrent.weight = weight if share else copy.deepcopy(weight)
    bias = getattr(recurrent, "bias", None)
    if bias is not None and bool(bias.ne(0).any()):
        _absorb(name, bias.detach(), previous, share, before)
    return layer


def _absorb(name: str, bias: Tensor, previous: Any, share: bool, before: OrderedDict[str, nn.Module]) -> None:
    """Move a constant recurrent current into the layer that drives the neurons."""
    if share or not isinstance(previous, nn.Linear):
        why = "cannot be shared" if share else "needs an nn.Linear before it that can take it"
        raise ValueError(f"{name}: the recurrent layer of bregma has no bias, and one that is not zero {why}")
    key = next(reversed(before))
    before[key] = dense(previous.weight, bias if previous.bias is None else previous.bias.detach() + bias)

"""A network as one safetensors file that says what it is: weights by layer, and the layers as JSON in its header.

The header's ``network`` is a list of layers in the order of their calls, each with ``name``, ``type`` and settings; its
``score`` says how class scores follow from the last layer (empty for none). Tensors are called ``LAYER.weight`` and so
on. Nothing in it can run code, and any language with a safetensors reader can use it.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bregma import __version__
from bregma.dynamics import ATan, Box, FastSigmoid, Triangle
from bregma.files import read_tensors, write_bytes
from bregma.interop.chain import Network, as_sequential
from bregma.nn import LIF, DelayedRecurrentLIF, Readout, RecurrentLIF, SpikeLinear, SpikingSequential

_FORMAT = "bregma network 1"
_NEURON = ("reset", "strict", "detach_reset")
_CONV = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
_NORM = ("num_features", "eps", "momentum", "affine", "track_running_stats")
_POOL = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")

#: The settings of each type of layer that its tensors do not tell.
_SETTINGS: dict[type[nn.Module], tuple[str, ...]] = {
    nn.Linear: ("in_features", "out_features"),
    SpikeLinear: ("in_features", "out_features"),
    nn.Conv2d: _CONV,
    nn.BatchNorm1d: _NORM,
    nn.BatchNorm2d: _NORM,
    nn.AvgPool2d: _POOL,
    nn.Flatten: ("start_dim", "end_dim"),
    LIF: _NEURON,
    RecurrentLIF: _NEURON,
    DelayedRecurrentLIF: (*_NEURON, "max_delay", "dropout"),
    Readout: (),
}
_TYPES = {kind.__name__: kind for kind in _SETTINGS}
_SURROGATES: dict[str, Any] = {kind.__name__: kind for kind in (ATan, Box, FastSigmoid, Triangle)}


def write_state(net: Network, path: str | Path) -> None:
    """Write a network as one safetensors file.

    Args:
        net: what `bregma.interop.chain.as_sequential` takes.
        path: file to write.

    Raises:
        TypeError: a layer or surrogate of a kind that is not known here.
    """
    chain = as_sequential(net)
    header = {
        "format": _FORMAT,
        "bregma": __version__,
        "network": json.dumps([_described(name, module) for name, module in chain.named_children()]),
        "score": chain.score or "",
    }
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in chain.state_dict().items()}
    write_bytes(Path(path), safetensors.torch.save(tensors, metadata=header))


def read_state(path: str | Path) -> SpikingSequential:
    """Read a network that `write_state` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; write it with bregma export RUN --to state")
    tensors, header = read_tensors(path)
    if header.get("format") != _FORMAT:
        raise ValueError(f"{path}: holds {header.get('format', 'no network')!r}, wanted {_FORMAT!r}")
    try:
        layers = OrderedDict((entry["name"], _built(entry, tensors)) for entry in json.loads(header["network"]))
        net = SpikingSequential(layers, score=header["score"] or None)
        net.load_state_dict(tensors, assign=True)
    except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise ValueError(f"{path}: header and tensors do not fit ({' '.join(str(error).split())})") from error
    return net


def _described(name: str, module: nn.Module) -> dict[str, Any]:
    if type(module) not in _SETTINGS:
        raise TypeError(f"{name}: {type(module).__name__} is not a layer that this format knows")
    entry: dict[str, Any] = {"name": name, "type": type(module).__name__, **settings_of(module)}
    if isinstance(module, LIF):
        kind = type(module.surrogate).__name__
        if kind not in _SURROGATES:
            raise TypeError(f"{name}: surrogate {kind} is not one that this format knows")
        entry["surrogate"] = {"type": kind, **vars(module.surrogate)}
    if isinstance(module, DelayedRecurrentLIF):
        entry["learn_spread"] = module.p_spread is not None
    return entry


def settings_of(module: nn.Module) -> dict[str, Any]:
    """The arguments that make a layer of the same shape, of a type that this format knows; not its tensors.

    Example:
        >>> settings_of(nn.Linear(4, 3))
        {'in_features': 4, 'out_features': 3, 'bias': True}
    """
    settings = {field: getattr(module, field) for field in _SETTINGS[type(module)]}
    return {**settings, "bias": module.bias is not None} if isinstance(module, nn.Linear | nn.Conv2d) else settings


def _built(entry: dict[str, Any], tensors: dict[str, Tensor]) -> nn.Module:
    """A layer without its tensors, so that no size a file states is allocated."""
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    name, kind = str(options.pop("name")), _TYPES[str(options.pop("type"))]
    if issubclass(kind, LIF | Readout):
        options["decay"] = tensors[f"{name}.decay"]
    if issubclass(kind, LIF):
        surrogate = dict(options["surrogate"])
        options["surrogate"] = _SURROGATES[surrogate.pop("type")](**surrogate)
        options["threshold"] = tensors[f"{name}.threshold"]
    if issubclass(kind, RecurrentLIF):
        options["size"] = len(tensors[f"{name}.recurrent.weight"])
    if issubclass(kind, DelayedRecurrentLIF):
        options["spread"] = float(tensors[f"{name}.spread"])
    if issubclass(kind, nn.Linear | nn.Conv2d | _BatchNorm):
        options["device"] = "meta"
    layer: nn.Module = kind(**options)
    return layer

"""Reading a NIR graph as a chain of layers; see `bregma.interop.nir`."""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bregma.dynamics import ATan, Box, FastSigmoid, Surrogate, Triangle
from bregma.interop.chain import dense
from bregma.interop.nir_wiring import Step, chain_of
from bregma.nn import LIF, DelayedRecurrentLIF, Readout, RecurrentLIF, SpikeLinear

Layers = OrderedDict[str, nn.Module]

_SURROGATES: dict[str, Any] = {kind.__name__: kind for kind in (ATan, Box, FastSigmoid, Triangle)}


def read_graph(graph: Any, dt: float, nir: Any) -> Layers:
    """The layers of a graph by the names of their nodes, dots as ``_``."""
    layers: Layers = OrderedDict()
    for step in chain_of(graph, nir):
        node, key = step.node, step.key
        if key in layers:
            raise ValueError(f"{step.name}: another node would be called {key} too, as dots become _")
        if isinstance(node, nir.Affine | nir.Linear):
            layers[key] = _dense(step)
        elif isinstance(node, nir.Conv2d):
            layers[key] = _conv(node)
        elif isinstance(node, nir.AvgPool2d | nir.SumPool2d):
            layers[key] = _pool(node, divisor=1 if isinstance(node, nir.SumPool2d) else None)
        elif isinstance(node, nir.Flatten):
            layers[key] = _flatten(step)
        elif isinstance(node, nir.LIF | nir.IF):
            layers[key] = _neurons(step, layers, dt)
        elif isinstance(node, nir.LI | nir.I):
            layers[key] = _readout(step, layers, dt)
        else:
            raise ValueError(f"{step.name}: bregma has no layer like the node {type(node).__name__}")
    return layers


def _tensor(array: Any) -> Tensor:
    """A tensor of a floating dtype of torch."""
    tensor = torch.from_numpy(np.array(array, order="C"))
    return tensor if tensor.is_floating_point() else tensor.to(torch.get_default_dtype())


def _weight(name: str, array: NDArray[Any]) -> Tensor:
    if np.ndim(array) != 2:
        raise ValueError(f"{name}: weight must be a matrix, got shape {np.shape(array)}")
    return _tensor(array)


def _dense(step: Step) -> nn.Linear:
    bias = _tensor(step.node.bias) if hasattr(step.node, "bias") else None
    kind = SpikeLinear if bool(step.node.metadata.get("events", False)) else nn.Linear
    return dense(_weight(step.name, step.node.weight), bias, kind)


def _conv(node: Any) -> nn.Conv2d:
    weight = _tensor(node.weight)
    padding = node.padding if isinstance(node.padding, str) else _pair(node.padding)
    bias = bool(node.metadata.get("bias", True))
    conv = nn.Conv2d(
        weight.shape[1] * int(node.groups),
        weight.shape[0],
        tuple(weight.shape[2:]),  # type: ignore[arg-type]
        _pair(node.stride),
        padding,
        _pair(node.dilation),
        int(node.groups),
        bias=bias,
        device="meta",
    )
    conv.weight = nn.Parameter(weight.clone())
    if bias:
        conv.bias = nn.Parameter(_tensor(node.bias).clone())
    return conv


def _pool(node: Any, divisor: int | None) -> nn.AvgPool2d:
    kernel, stride, padding = (_pair(getattr(node, field)) for field in ("kernel_size", "stride", "padding"))
    return nn.AvgPool2d(kernel, stride, padding, divisor_override=divisor)


def _pair(value: Any) -> tuple[int, int]:
    height, width = np.broadcast_to(np.array(value), (2,)).tolist()
    return int(height), int(width)


def _flatten(step: Step) -> nn.Flatten:
    """NIR's frames have no batch axis, so its axis 0 is ours 1; some writers count the batch all the same."""
    first, last = int(step.node.start_dim), int(step.node.end_dim)
    axes = len(step.node.input_type["input"]) if step.node.input_type["input"] is not None else None
    if first > 1 or last not in (-1, *([axes - 1, axes] if axes else [])):
        raise ValueError(f"{step.name}: Flatten must flatten whole frames, got start_dim={first}, end_dim={last}")
    return nn.Flatten()


def _decay(step: Step, dt: float) -> Tensor:
    """Decay of a node, () if all neurons have the same; that of the metadata if tau agrees with it."""
    node = step.node
    values = 1 - dt / np.asarray(node.tau, dtype=np.float64) if hasattr(node, "tau") else np.ones(np.shape(node.r))
    if (values < 0).any() or (values > 1).any():
        raise ValueError(f"{step.name}: tau must be >= dt = {dt:g}, got {np.min(node.tau):g}")
    kept = node.metadata.get("decay")
    if kept is not None and np.allclose(np.broadcast_to(kept, values.size), values.ravel(), rtol=0, atol=1e-6):
        return _tensor(kept if bool(node.metadata.get("per_neuron", True)) else np.reshape(kept, ()))
    return _collapsed(_tensor(values).to(torch.get_default_dtype()))


def _collapsed(constants: Tensor) -> Tensor:
    """One number if all neurons have the same, else one per neuron (n,)."""
    flat = constants.flatten()
    return flat[0].clone() if bool((flat == flat[0]).all()) else flat.clone()


def _gain(step: Step, dt: float) -> NDArray[np.float64]:
    """By what a node scales its current in a step, per neuron: ``R dt / tau``, or ``R dt`` if it does not leak."""
    node = step.node
    if np.any(getattr(node, "v_leak", 0) != 0):
        raise ValueError(f"{step.name}: membranes of bregma leak to 0, got v_leak={np.max(np.abs(node.v_leak)):g}")
    gain = np.asarray(node.r, dtype=np.float64) * dt / (np.asarray(node.tau, np.float64) if hasattr(node, "tau") else 1)
    if not (gain > 0).all():
        raise ValueError(f"{step.name}: r must be > 0, got {np.min(node.r):g}")
    return np.where(np.isclose(gain, 1, rtol=1e-6), 1.0, gain).ravel()


def _neurons(step: Step, layers: Layers, dt: float) -> LIF:
    node, metadata = step.node, step.node.metadata
    reset = str(metadata.get("reset", "zero"))
    if reset == "zero" and np.any(node.v_reset != 0):
        raise ValueError(f"{step.name}: neurons of bregma are reset to 0, got v_reset={np.max(np.abs(node.v_reset)):g}")
    threshold = _tensor(node.v_threshold)
    threshold = _collapsed((threshold.double().flatten() / torch.from_numpy(_gain(step, dt))).to(threshold.dtype))
    options: dict[str, Any] = {
        "decay": _decay(step, dt),
        "threshold": threshold,
        "reset": reset,
        "strict": bool(metadata.get("strict", True)),
        "detach_reset": bool(metadata.get("detach_reset", False)),
        "surrogate": _surrogate(metadata),
    }
    if step.weight is None:
        return LIF(**options)
    weight = _weight(step.name, step.weight.weight)
    layer = RecurrentLIF(len(weight), **options) if step.delay is None else _delayed(step, len(weight), options, dt)
    layer.recurrent.weight = nn.Parameter(weight.clone())
    _absorb(step, layers)
    return layer


def _delayed(step: Step, size: int, options: dict[str, Any], dt: float) -> DelayedRecurrentLIF:
    node, metadata = step.delay, step.delay.metadata
    values = np.asarray(node.delay, dtype=np.float64).ravel() / dt
    kept = metadata.get("delays")
    exact = kept is not None and np.allclose(kept, values, rtol=1e-6, atol=1e-6)
    delays = _tensor(kept) if exact else _tensor(np.broadcast_to(values, size)).to(torch.get_default_dtype())
    if not bool((delays >= 0).all()):
        raise ValueError(f"{step.name}: delay must be >= 0, got {node.delay.min():g}")
    layer = DelayedRecurrentLIF(
        size,
        max_delay=float(metadata.get("max_delay", np.ceil(values.max()))),  # type: ignore[arg-type]
        spread=float(metadata.get("spread", 0.0)),
        learn_spread="p_spread" in metadata,
        dropout=float(metadata.get("dropout", 0.0)),
        **options,
    )
    layer.delays = nn.Parameter(delays.clone())
    layer.spread = layer.spread.to(delays.dtype)
    if layer.p_spread is not None:
        layer.p_spread = nn.Parameter(_tensor(metadata["p_spread"]).clone())
    return layer


def _absorb(step: Step, layers: Layers) -> None:
    """Move the bias of a recurrent layer, a constant current, into the layer that drives the neurons."""
    bias = getattr(step.weight, "bias", None)
    if bias is None or not np.any(bias):
        return
    key = next(reversed(layers), None)
    before = layers[key] if key is not None else None
    if key is None or not isinstance(before, nn.Linear):
        raise ValueError(f"{step.name}: a recurrent bias needs an Affine or Linear before the neurons that can take it")
    own = torch.zeros_like(before.weight[:, 0]) if before.bias is None else before.bias.detach()
    layers[key] = dense(before.weight, own + _tensor(bias), type(before))


def _readout(step: Step, layers: Layers, dt: float) -> Readout:
    gain = torch.from_numpy(_gain(step, dt))
    if bool((gain != 1).any()):
        key = next(reversed(layers), None)
        before = layers[key] if key is not None else None
        if key is None or not isinstance(before, nn.Linear):
            raise ValueError(f"{step.name}: R dt / tau must be 1 unless an Affine or Linear before it can take it")
        weight = (gain[:, None] * before.weight.detach()).to(before.weight.dtype)
        bias = None if before.bias is None else (gain * before.bias.detach()).to(before.bias.dtype)
        layers[key] = dense(weight, bias, type(before))
    return Readout(_decay(step, dt))


def _surrogate(metadata: dict[str, Any]) -> Surrogate:
    """The surrogate a node of ours was trained with; that of no importance to spikes, ATan, for all others."""
    fields = json.loads(str(metadata.get("surrogate", "{}")))
    kind = _SURROGATES.get(fields.pop("name", ""))
    surrogate: Surrogate = ATan() if kind is None else kind(**fields)
    return surrogate

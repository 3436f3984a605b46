"""Every network of this package as one chain of layers, which is what other libraries can hold."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterator

import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bregma.admm import ADMMClassifier, ConsistentADMM, Convolution
from bregma.admm.synapses import Dense
from bregma.nn import (
    LIF,
    DelRec,
    Readout,
    ReadoutLayer,
    Recompute,
    SpikeLinear,
    SpikingLayer,
    SpikingMLP,
    SpikingSequential,
)

Network = nn.Module | ADMMClassifier | ConsistentADMM


def as_sequential(net: Network) -> SpikingSequential:
    """Any network of this package as a `SpikingSequential` that computes the same.

    Modules are shared, not copied: what trains one trains the other. (The weights of an `ADMMClassifier` are numpy
    arrays and copied.) The dropout of `DelRec` is left out, so the result is that network in evaluation.

    Args:
        net: a `SpikingMLP`, a `DelRec` network, a fitted `ADMMClassifier`, a `ConsistentADMM` of dense layers after its
            first step, a `SpikingSequential` or an ``nn.Sequential``.

    Returns:
        The chain. That of a classifier with convolutions takes frames (T, B, channels, height, width), others flatten
        their frames. For `ADMMClassifier` the scores are those of ``decision_function``, one per class.

    Raises:
        TypeError: any other network; make a `SpikingSequential` of its layers.
        ValueError: a `ConsistentADMM` without weights yet, or with layers that are not dense.
        sklearn.exceptions.NotFittedError: an `ADMMClassifier` before ``fit``.

    Example:
        >>> as_sequential(SpikingMLP(6, hidden=(4,), classes=2))
        SpikingSequential(
          score='mean'
          (hidden_0_linear): SpikeLinear(in_features=6, out_features=4, bias=True)
          (hidden_0_neurons): LIF(decay=0.9, threshold=1, reset='subtract', surrogate=ATan(alpha=2.0))
          (readout_linear): SpikeLinear(in_features=4, out_features=2, bias=True)
          (readout_integrators): Readout(decay=0.9)
        )
    """
    if isinstance(net, SpikingSequential):
        layers = each_place(net)
        same = [id(layer) for layer in layers.values()] == [id(layer) for layer in net]
        return net if same else SpikingSequential(layers, score=net.score)
    if isinstance(net, SpikingMLP):
        return _of_mlp(net)
    if isinstance(net, DelRec):
        return _of_delrec(net)
    if isinstance(net, ADMMClassifier):
        return _of_admm(net)
    if isinstance(net, ConsistentADMM):
        return _of_consistent(net)
    if isinstance(net, nn.Sequential):
        return SpikingSequential(each_place(net))
    raise TypeError(
        "net must be a SpikingMLP, DelRec, ADMMClassifier, ConsistentADMM or a sequence of layers "
        f"(bregma.nn.SpikingSequential), got {type(net).__name__}"
    )


def each_place(net: nn.Sequential) -> OrderedDict[str, nn.Module]:
    """The layers by name, with a copy that shares its tensors where one stands at several places.

    Layers of layers, such as a sequence in the sequence, are taken apart.
    """
    seen: set[int] = set()
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for name, module in _leaves(net):
        if name in layers:
            raise ValueError(f"net must have layers of different names, got {name!r} twice when taken apart")
        layers[name] = copy.copy(module) if id(module) in seen else module
        seen.add(id(module))
    return layers


def _leaves(net: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in net._modules.items():
        assert module is not None
        if isinstance(module, nn.Sequential | SpikingLayer | ReadoutLayer | Recompute):
            yield from ((f"{name}_{inner}", layer) for inner, layer in _leaves(module))
        else:
            yield name, module


def input_shape(chain: SpikingSequential, frame_shape: tuple[int, ...] | None) -> tuple[int, ...]:
    """Shape of a frame of a chain.

    Args:
        chain: the layers.
        frame_shape: what the caller says; needed unless the first layer is dense.

    Raises:
        ValueError: it is needed, or the first layer takes another one.

    Example:
        >>> input_shape(SpikingSequential(nn.Linear(4, 3), LIF()), None)
        (4,)
    """
    first = next(iter(chain), None)
    if isinstance(first, nn.Linear):
        if frame_shape is not None and tuple(frame_shape) != (first.in_features,):
            raise ValueError(f"frame_shape must be ({first.in_features},) for the first layer, got {frame_shape}")
        return (first.in_features,)
    if frame_shape is None:
        raise ValueError(f"frame_shape must be given unless the first layer is dense, got a {type(first).__name__}")
    return tuple(frame_shape)


def _of_mlp(net: SpikingMLP) -> SpikingSequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for index, layer in enumerate(net.hidden):
        layers[f"hidden_{index}_linear"] = layer.get_submodule("linear")
        layers[f"hidden_{index}_neurons"] = layer.get_submodule("neurons")
    layers["readout_linear"] = net.readout.linear
    layers["readout_integrators"] = net.readout.integrators
    return SpikingSequential(layers, score=net.score)


def _of_delrec(net: DelRec) -> SpikingSequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for index, layer in enumerate(net.hidden):
        for name in ("linear", "norm", "neurons"):
            if getattr(layer, name) is not None:
                layers[f"hidden_{index}_{name}"] = layer.get_submodule(name)
    layers["readout_linear"] = net.readout
    if not net.architecture.leaky_readout:  # its integrators add up the scores, and so does this
        return SpikingSequential(layers, score="sum").train(net.training)
    layers["readout_integrators"] = net.integrators
    return SpikingSequential(layers, score="softmax").train(net.training)


def _of_admm(model: ADMMClassifier) -> SpikingSequential:
    check_is_fitted(model, "weights_")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = model.frame_shape[0] if model.frame_shape is not None else 0
    weights = [torch.from_numpy(weight) for weight in model.weights_]
    for index, (hidden, weight) in enumerate(zip(model.hidden, weights, strict=False)):
        if not isinstance(hidden, int | Convolution):
            raise ValueError(f"net must have dense and convolutional layers, got {hidden}")
        if isinstance(hidden, Convolution):
            layers[f"hidden_{index}_conv"] = _convolution(hidden, weight, channels)
            channels = hidden.channels
        else:
            layers[f"hidden_{index}_linear"] = dense(weight, None, SpikeLinear)
        layers[f"hidden_{index}_neurons"] = LIF(model.decay, model.threshold, detach_reset=True)
    layers["readout_linear"] = dense(weights[-1], None, SpikeLinear)
    layers["readout_integrators"] = Readout(model.decay)
    return SpikingSequential(layers, score=model.readout if model.solver == "consistent" else "last")


def _of_consistent(solver: ConsistentADMM) -> SpikingSequential:
    if not solver.weights:
        raise ValueError("net must have done a step, got a ConsistentADMM without weights")
    for index, synapses in enumerate(solver.synapses):
        if type(synapses) is not Dense:
            raise ValueError(f"net must have dense layers, got {type(synapses).__name__} in hidden layer {index}")
    constants, layers = solver.settings.constants, OrderedDict[str, nn.Module]()
    for index, weight in enumerate(solver.weights[:-1]):
        layers[f"hidden_{index}_linear"] = dense(weight, None, SpikeLinear)
        layers[f"hidden_{index}_neurons"] = LIF(constants.decay, constants.threshold, detach_reset=True)
    layers["readout_linear"] = dense(solver.weights[-1], None, SpikeLinear)
    layers["readout_integrators"] = Readout(constants.decay)
    return SpikingSequential(layers, score=solver.settings.readout)


def _convolution(layer: Convolution, weight: Tensor, channels: int) -> nn.Conv2d:
    conv = nn.Conv2d(channels, layer.channels, layer.kernel, layer.stride, layer.padding, bias=False, device="meta")
    conv.weight = nn.Parameter(weight.clone().view(conv.weight.shape))
    return conv


def dense(weight: Tensor, bias: Tensor | None, kind: type[nn.Linear] = nn.Linear) -> nn.Linear:
    """An ``nn.Linear``, or a kind of it, of copies of its tensors, weight (n, inputs) and bias (n,)."""
    linear = kind(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach().clone())
    return linear


def folded(layer: nn.Linear | nn.Conv2d, norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Weight and bias of a layer with the batch normalisation after it in evaluation, computed in float64.

    ``y = gamma (W x + b - mean) / sqrt(var + eps) + beta`` is a layer with the weight ``g W`` and the bias
    ``g (b - mean) + beta``, ``g = gamma / sqrt(var + eps)``.

    Raises:
        ValueError: the normalisation keeps no running statistics.

    Example:
        >>> norm = nn.BatchNorm1d(2)
        >>> weight, bias = folded(nn.Linear(3, 2), norm)
        >>> weight.shape, bias.shape
        (torch.Size([2, 3]), torch.Size([2]))
    """
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("norm must keep running statistics to be folded into the layer before it")
    with torch.no_grad():
        gain = 1 / (norm.running_var.double() + norm.eps).sqrt()
        shift = -norm.running_mean.double() if layer.bias is None else layer.bias - norm.running_mean.double()
        if norm.affine:
            gain = gain * norm.weight
        weight = gain.view(-1, *[1] * (layer.weight.dim() - 1)) * layer.weight
        bias = gain * shift + (norm.bias if norm.affine else 0)
    return weight.to(layer.weight.dtype), bias.to(layer.weight.dtype)

"""Writing a chain of layers as a NIR graph; see `bregma.interop.nir`."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bregma import __version__
from bregma.dynamics import ATan, Box, FastSigmoid, Surrogate, Triangle
from bregma.interop.chain import folded, input_shape
from bregma.nn import LIF, DelayedRecurrentLIF, Readout, RecurrentLIF, SpikeLinear, SpikingSequential

Shape = tuple[int, ...]

_KEPT = (ATan, Box, FastSigmoid, Triangle)


def write_graph(chain: SpikingSequential, dt: float, frame_shape: Shape | None, nir: Any) -> tuple[Any, list[str]]:
    """The graph of a chain, and what of it other readers will not see."""
    writer = _Writer(dt, nir)
    writer.start(input_shape(chain, frame_shape))
    for name, module in chain.named_children():
        writer.add(name, module)
    writer.end()
    metadata = {"bregma": __version__, "dt": dt, "discretisation": "forward Euler"}
    if chain.score is not None:
        metadata["score"] = chain.score
        writer.lost.append(f"output: class scores are the {chain.score} of the last node over time")
    graph = nir.NIRGraph(nodes=writer.nodes, edges=writer.edges, metadata=metadata)
    return graph, writer.lost


class _Writer:
    """A graph that grows node by node; knows the shape of a frame at its end."""

    def __init__(self, dt: float, nir: Any) -> None:
        self.dt, self.nir = dt, nir
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.lost: list[str] = []
        self.shape: Shape = ()
        self.last = ""
        self._foldable: tuple[str, nn.Linear | nn.Conv2d] | None = None

    def start(self, shape: Shape) -> None:
        self.nodes["input"], self.last, self.shape = self.nir.Input({"input": np.array(shape)}), "input", shape

    def end(self) -> None:
        self._append("output", self.nir.Output({"output": np.array(self.shape)}), self.shape)

    def add(self, name: str, module: nn.Module) -> None:
        foldable, self._foldable = self._foldable, None
        if isinstance(module, nn.Linear):
            if len(self.shape) > 1:
                self._append(f"{name}_flatten", *self._flatten())
            self._append(name, self._dense(module, module.weight, module.bias), (module.out_features,))
            self._foldable = name, module
        elif isinstance(module, nn.Conv2d):
            self._append(name, *self._conv(name, module))
            self._foldable = name, module
        elif isinstance(module, _BatchNorm):
            self._fold(name, module, foldable)
        elif isinstance(module, nn.Flatten):
            if (module.start_dim, module.end_dim) != (1, -1):
                raise ValueError(f"{name}: Flatten must flatten all but the batch, got {module}")
            self._append(name, *self._flatten())
        elif isinstance(module, nn.AvgPool2d):
            self._append(name, *self._pool(name, module))
        elif isinstance(module, LIF):
            self._neurons(name, module)
        elif isinstance(module, Readout):
            self._append(name, self._integrators(name, module), self.shape)
        elif not isinstance(module, nn.Dropout | nn.Identity):  # these do nothing in evaluation
            raise TypeError(f"{name}: {type(module).__name__} is not a layer that goes to NIR")

    def _append(self, name: str, node: Any, shape: Shape) -> None:
        if name in self.nodes:
            raise ValueError(f"{name}: two nodes of a NIR graph cannot have this name")
        self.nodes[name] = node
        self.edges.append((self.last, name))
        self.last, self.shape = name, shape

    def _dense(self, module: nn.Linear, weight: Tensor, bias: Tensor | None) -> Any:
        metadata = {"events": True} if isinstance(module, SpikeLinear) else {}  # it sums in another order
        if bias is None:
            return self.nir.Linear(weight=_array(weight), metadata=metadata)
        return self.nir.Affine(weight=_array(weight), bias=_array(bias), metadata=metadata)

    def _conv(self, name: str, module: nn.Conv2d) -> tuple[Any, Shape]:
        if module.groups != 1 or module.padding_mode != "zeros" or isinstance(module.padding, str):
            raise ValueError(f"{name}: NIR takes convolutions of one group, padded by a number of zeros, got {module}")
        if module.kernel_size[0] != module.kernel_size[1]:
            raise ValueError(f"{name}: nir takes square kernels, for others it infers a wrong shape, got {module}")
        shape = _output_shape(name, module, self.shape)
        bias = torch.zeros_like(module.weight[:, 0, 0, 0]) if module.bias is None else module.bias
        node = self.nir.Conv2d(
            input_shape=self.shape[1:],
            weight=_array(module.weight),
            stride=module.stride,
            padding=module.padding,
            dilation=module.dilation,
            groups=1,
            bias=_array(bias),
            metadata={"bias": module.bias is not None},
        )
        return node, shape

    def _pool(self, name: str, module: nn.AvgPool2d) -> tuple[Any, Shape]:
        if module.ceil_mode or not module.count_include_pad or module.divisor_override not in (None, 1):
            raise ValueError(f"{name}: NIR takes mean and sum pools that count the padding, got {module}")
        kind = self.nir.AvgPool2d if module.divisor_override is None else self.nir.SumPool2d
        node = kind(kernel_size=_pair(module.kernel_size), stride=_pair(module.stride), padding=_pair(module.padding))
        shape = _output_shape(name, module, self.shape)
        node.input_type, node.output_type = {"input": np.array(self.shape)}, {"output": np.array(shape)}
        return node, shape

    def _flatten(self) -> tuple[Any, Shape]:
        size = int(np.prod(self.shape))
        return self.nir.Flatten({"input": np.array(self.shape)}, start_dim=0, end_dim=-1), (size,)

    def _fold(self, name: str, norm: _BatchNorm, foldable: tuple[str, nn.Linear | nn.Conv2d] | None) -> None:
        if foldable is None:
            raise ValueError(f"{name}: NIR has no batch normalisation, and no dense layer or convolution is before it")
        before, layer = foldable
        weight, bias = folded(layer, norm)
        if isinstance(layer, nn.Linear):
            self.nodes[before] = self._dense(layer, weight, bias)
            return
        node = self.nodes[before]
        node.weight, node.bias, node.metadata = _array(weight), _array(bias), {"bias": True}

    def _neurons(self, name: str, module: LIF) -> None:
        metadata = {
            "reset": module.reset,
            "strict": module.strict,
            "detach_reset": module.detach_reset,
            "surrogate": _surrogate(module.surrogate),
        }
        if module.reset != "zero":
            self.lost.append(f"{name}: reset {module.reset!r}, NIR knows the reset to a value")
        if not module.strict:
            self.lost.append(f"{name}: strict=False, a neuron of NIR does not fire at threshold")
        threshold = _full(module.threshold, self.shape)
        zeros = np.zeros(self.shape)
        tau, metadata = self._time_constant(name, module.decay, metadata)
        if tau is None:
            r = np.full(self.shape, 1 / self.dt)
            node = self.nir.IF(r=r, v_threshold=threshold, v_reset=zeros, metadata=metadata)
        else:
            node = self.nir.LIF(
                tau=tau, r=tau / self.dt, v_leak=zeros, v_threshold=threshold, v_reset=zeros, metadata=metadata
            )
        if not isinstance(module, RecurrentLIF):
            self._append(name, node, self.shape)
            return
        if len(self.shape) > 1:
            raise ValueError(f"{name}: NIR's Linear takes flat frames, so recurrent neurons need a Flatten before them")
        lif, loop = f"{name}.lif", f"{name}.w_rec"  # the names that snnTorch looks for
        self._append(lif, node, self.shape)
        self.nodes[loop] = self.nir.Linear(weight=_array(module.recurrent.weight))
        self.edges += [(lif, loop), (loop, lif)]
        if isinstance(module, DelayedRecurrentLIF):
            self.edges.remove((lif, loop))
            self.edges += [(lif, f"{name}.delay"), (f"{name}.delay", loop)]
            self.nodes[f"{name}.delay"] = self._delay(name, module)

    def _delay(self, name: str, module: DelayedRecurrentLIF) -> Any:
        delays, spread = _array(module.delays), _array(module.neuron_spread())
        if spread.any():
            self.lost.append(f"{name}: spread of the delays up to {spread.max():g} steps; round_delays_() removes it")
        if (delays % 1).any():
            self.lost.append(f"{name}: delays between two steps are heard at both; round_delays_() makes them whole")
        metadata = {
            "max_delay": float(module.max_delay),
            "dropout": module.dropout,
            "spread": float(module.spread),
            "delays": delays,
        }
        if module.p_spread is not None:
            metadata["p_spread"] = _array(module.p_spread)
        return self.nir.Delay(delay=delays.astype(np.float64) * self.dt, metadata=metadata)

    def _integrators(self, name: str, module: Readout) -> Any:
        tau, metadata = self._time_constant(name, module.decay, {})
        if tau is None:
            return self.nir.I(r=np.full(self.shape, 1 / self.dt), metadata=metadata)
        return self.nir.LI(tau=tau, r=tau / self.dt, v_leak=np.zeros(self.shape), metadata=metadata)

    def _time_constant(
        self, name: str, decay: Tensor, metadata: dict[str, Any]
    ) -> tuple[NDArray[np.float64] | None, dict[str, Any]]:
        """Tau of a layer in the shape of its frames, None if it does not leak; its metadata with the decay."""
        values = _array(decay)
        metadata = {**metadata, "decay": np.atleast_1d(values), "per_neuron": values.ndim > 0}
        if (values == 1).all():
            return None, metadata
        if (values == 1).any():
            raise ValueError(
                f"{name}: a decay of 1 is another node of NIR, so all neurons of a layer must have it or none"
            )
        return self.dt / (1 - _full(decay, self.shape).astype(np.float64)), metadata


def _array(tensor: Tensor) -> NDArray[Any]:
    tensor = tensor.float() if tensor.dtype == torch.bfloat16 else tensor  # which numpy does not know
    array: NDArray[Any] = tensor.detach().cpu().contiguous().numpy()
    return array


def _full(constant: Tensor, shape: Shape) -> NDArray[Any]:
    """A neuron constant, () or (n,), in the shape of a frame."""
    return np.broadcast_to(_array(constant), (int(np.prod(shape)),)).reshape(shape).copy()


def _pair(value: Any) -> NDArray[np.int64]:
    return np.broadcast_to(np.array(value), (2,)).copy()


def _output_shape(name: str, module: nn.Module, shape: Shape) -> Shape:
    if len(shape) != 3:
        raise ValueError(f"{name}: {type(module).__name__} takes frames (channels, height, width), got {shape}")
    twin = module
    if isinstance(module, nn.Conv2d):
        twin = copy.deepcopy(module).to("meta", torch.float32)
    try:
        return tuple(twin(torch.empty(1, *shape, device="meta")).shape[1:])
    except RuntimeError as error:
        raise ValueError(f"{name}: frames {shape} do not fit {module}") from error


def _surrogate(surrogate: Surrogate) -> str:
    """A built-in surrogate as a line of JSON; others are named, not kept."""
    fields: dict[str, Any] = dict(vars(surrogate)) if isinstance(surrogate, _KEPT) else {}
    return json.dumps({"name": type(surrogate).__name__, **fields})

"""Look inside a network while it runs: spikes of every layer and scores over time, without changing its code."""

from collections.abc import Callable
from types import TracebackType
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from bregma.nn.layers import LIF, Readout


class Record:
    """Keeps what the spiking layers and readouts of ``net`` gave out in the last forward pass.

    Args:
        net: any module that holds `LIF`, `RecurrentLIF` or `Readout` layers, called once per forward pass each.

    Attributes:
        spikes: module name -> spikes (T, B, n), detached.
        scores: module name -> readout membranes (T, B, n), detached.

    Example:
        >>> import torch
        >>> from bregma.nn import SpikingMLP
        >>> net = SpikingMLP(6, hidden=(4,), classes=2)
        >>> with Record(net) as record:
        ...     _ = net(torch.rand(5, 3, 6))
        >>> {name: tuple(spikes.shape) for name, spikes in record.spikes.items()}
        {'hidden.0.neurons': (5, 3, 4)}
    """

    def __init__(self, net: nn.Module) -> None:
        self.net = net
        self.spikes: dict[str, Tensor] = {}
        self.scores: dict[str, Tensor] = {}
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> "Record":
        for name, module in self.net.named_modules():
            if isinstance(module, LIF):
                self._handles.append(module.register_forward_hook(self._hook(name, self.spikes)))
            elif isinstance(module, Readout):
                self._handles.append(module.register_forward_hook(self._hook(name, self.scores)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def firing_rates(self) -> dict[str, float]:
        """Spikes per neuron and time step of each spiking layer in the last forward pass."""
        return {name: spikes.mean().item() for name, spikes in self.spikes.items()}

    def firing_rate(self) -> float:
        """Spikes per neuron and time step of all spiking layers together; zero if there are none."""
        events = sum(spikes.sum().item() for spikes in self.spikes.values())
        return events / max(1, sum(spikes.numel() for spikes in self.spikes.values()))

    @staticmethod
    def _hook(name: str, kept: dict[str, Tensor]) -> Callable[[nn.Module, Any, tuple[Tensor, Tensor]], None]:
        def hook(module: nn.Module, inputs: Any, output: tuple[Tensor, Tensor]) -> None:
            kept[name] = output[0].detach()

        return hook

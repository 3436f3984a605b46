"""The same networks in bregma and in its peers, on the same weights: constructors that return ``frames -> output``."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from bregma.dynamics import ATan, spike
from bregma.dynamics.delays import delay_kernel, slots_needed
from bregma.nn import LIF, DelayedRecurrentLIF, RecurrentLIF, SpikeLinear

DECAY, THRESHOLD = 0.9, 1.0


@dataclass(frozen=True)
class Work:
    """A network and what it is shown: ``sizes`` from input to output, ``recurrent`` hidden layers or not."""

    name: str
    steps: int
    batch: int
    sizes: tuple[int, ...]
    density: float
    gains: tuple[float, ...]
    recurrent: tuple[bool, ...]

    def __str__(self) -> str:
        sizes = "-".join(
            f"{n}{' recurrent' * own}" for n, own in zip(self.sizes, (False, *self.recurrent), strict=True)
        )
        return f"{self.name}: T {self.steps}, B {self.batch}, {sizes}, {self.density:.0%} input density"

    def short(self) -> "Work":
        """The same on a few steps of a few samples."""
        return replace(self, steps=4, batch=4)

    def frames(self) -> Tensor:
        """Input (T, B, n): events of the given density, or pixels where that is one."""
        generator = torch.Generator().manual_seed(1)
        shape = (self.steps, self.batch, self.sizes[0])
        if self.density == 1.0:  # pixels
            return torch.rand(shape, generator=generator)
        return (torch.rand(shape, generator=generator) < self.density).float()

    def weights(self) -> list[tuple[Tensor, Tensor | None]]:
        """Per layer the weights and, where recurrent, the weights from itself to itself."""
        generator = torch.Generator().manual_seed(0)
        layers = []
        for fan_in, n, gain, recurrent in zip(self.sizes, self.sizes[1:], self.gains, self.recurrent, strict=False):
            weight = gain / fan_in**0.5 * torch.randn(n, fan_in, generator=generator)
            own = 0.5 / n**0.5 * torch.randn(n, n, generator=generator) if recurrent else None
            layers.append((weight, own))
        return layers


NMNIST = Work("N-MNIST-like", 150, 64, (2312, 512, 10), 0.01, (2.2, 6.0), (False, False))
SHD = Work("SHD-like", 100, 128, (140, 256, 256, 20), 0.03, (2.2, 3.0, 3.0), (False, True, False))
PSMNIST = Work("PSMNIST-like", 784, 128, (1, 64, 212, 212, 10), 1.0, (0.3, 1.9, 2.0, 1.0), (False, True, True, False))


def _dense(weight: Tensor, kind: type[nn.Linear] = nn.Linear) -> nn.Linear:
    layer = kind(weight.shape[1], weight.shape[0], bias=False)
    layer.weight.data.copy_(weight)
    return layer


class Ours(nn.Module):
    """Spiking layers, the last one too, as snnTorch's tutorials build them."""

    def __init__(self, work: Work) -> None:
        super().__init__()
        self.dense, self.neurons = nn.ModuleList(), nn.ModuleList()
        for weight, own in work.weights():
            self.dense.append(_dense(weight, SpikeLinear))
            if own is None:
                self.neurons.append(LIF(DECAY, THRESHOLD, detach_reset=True))
            else:
                self.neurons.append(RecurrentLIF(len(own), DECAY, THRESHOLD, detach_reset=True))
                self.neurons[-1].recurrent.weight.data.copy_(own)

    def forward(self, x: Tensor) -> Tensor:
        """Frames (T, B, n_in) to spikes (T, B, n_out)."""
        for dense, neurons in zip(self.dense, self.neurons, strict=True):
            x, _ = neurons(dense(x))
        return x


class SnnTorch(nn.Module):
    """The step loop of snnTorch's tutorials."""

    def __init__(self, work: Work) -> None:
        super().__init__()
        import snntorch

        surrogate = snntorch.surrogate.atan(alpha=2.0)
        self.dense, self.neurons = nn.ModuleList(), nn.ModuleList()
        for weight, own in work.weights():
            self.dense.append(_dense(weight))
            if own is None:
                self.neurons.append(snntorch.Leaky(DECAY, THRESHOLD, spike_grad=surrogate))
            else:
                neurons = snntorch.RLeaky(
                    DECAY, threshold=THRESHOLD, spike_grad=surrogate, linear_features=len(own), init_hidden=False
                )
                neurons.recurrent.weight.data.copy_(own)
                neurons.recurrent.bias = None
                self.neurons.append(neurons)

    def forward(self, x: Tensor) -> Tensor:
        """Frames (T, B, n_in) to spikes (T, B, n_out)."""
        states = [neurons.reset_mem() for neurons in self.neurons]
        out = []
        for now in x.unbind(0):
            for i, (dense, neurons) in enumerate(zip(self.dense, self.neurons, strict=True)):
                now = dense(now)
                if isinstance(states[i], tuple):
                    states[i] = neurons(now, *states[i])
                    now = states[i][0]
                else:
                    now, states[i] = neurons(now, states[i])
            out.append(now)
        return torch.stack(out)


class SpikingJelly(nn.Module):
    """Multi-step layers; recurrent ones as a loop of single-step neurons, faster than its recurrent container."""

    def __init__(self, work: Work) -> None:
        super().__init__()
        from spikingjelly.activation_based import neuron, surrogate

        self.dense, self.neurons, self.own = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for weight, own in work.weights():
            self.dense.append(_dense(weight))
            self.own.append(nn.Identity() if own is None else _dense(own))
            options = {"v_threshold": THRESHOLD, "v_reset": None, "detach_reset": True}
            options |= {"decay_input": False, "step_mode": "m" if own is None else "s"}
            act = surrogate.ATan(alpha=2.0)
            self.neurons.append(neuron.LIFNode(tau=1 / (1 - DECAY), surrogate_function=act, **options))

    def forward(self, x: Tensor) -> Tensor:
        """Frames (T, B, n_in) to spikes (T, B, n_out)."""
        for dense, neurons, own in zip(self.dense, self.neurons, self.own, strict=True):
            neurons.reset()
            current = dense(x)
            if neurons.step_mode == "m":
                x = neurons(current)
                continue
            spikes, train = torch.zeros_like(current[0]), []
            for now in current.unbind(0):
                spikes = neurons(now + own(spikes))
                train.append(spikes)
            x = torch.stack(train)
        return x


class Norse(nn.Module):
    """Norse's LIF, which has a synaptic current as a second state: more work per step, not the same model."""

    def __init__(self, work: Work) -> None:
        super().__init__()
        import norse.torch

        self.dense, self.neurons = nn.ModuleList(), nn.ModuleList()
        for weight, own in work.weights():
            n = weight.shape[0]
            self.dense.append(_dense(weight))
            self.neurons.append(norse.torch.LIF() if own is None else norse.torch.LIFRecurrent(n, n))

    def forward(self, x: Tensor) -> Tensor:
        """Frames (T, B, n_in) to spikes (T, B, n_out)."""
        for dense, neurons in zip(self.dense, self.neurons, strict=True):
            x, _ = neurons(dense(x))
        return x


class Sinabs(nn.Module):
    """sinabs' LIF, batch-major inside."""

    def __init__(self, work: Work) -> None:
        super().__init__()
        import sinabs.layers

        self.dense, self.neurons = nn.ModuleList(), nn.ModuleList()
        for weight, own in work.weights():
            self.dense.append(_dense(weight))
            options = {"tau_mem": 10.0, "norm_input": False}
            if own is None:
                self.neurons.append(sinabs.layers.LIF(**options))
            else:
                self.neurons.append(sinabs.layers.LIFRecurrent(**options, rec_connect=_dense(own)))

    def forward(self, x: Tensor) -> Tensor:
        """Frames (T, B, n_in) to spikes (T, B, n_out)."""
        x = x.transpose(0, 1)
        for dense, neurons in zip(self.dense, self.neurons, strict=True):
            neurons.reset_states()
            x = neurons(dense(x))
        return x.transpose(0, 1)


PEERS: dict[str, Callable[[Work], nn.Module]] = {
    "snnTorch": SnnTorch,
    "SpikingJelly": SpikingJelly,
    "Norse": Norse,
    "sinabs": Sinabs,
}


def train(net: nn.Module, frames: Tensor) -> Callable[[], object]:
    """Forward, backward and weight gradients."""
    weights: Sequence[Tensor] = [p for p in net.parameters() if p.requires_grad]

    def work() -> object:
        out = net(frames)
        return torch.autograd.grad(out.mean(0).square().sum(), weights, allow_unused=True)

    return work


def infer(net: nn.Module, frames: Tensor) -> Callable[[], object]:
    """Forward only."""

    def work() -> object:
        with torch.no_grad():
            return net(frames)

    return work


def _delayed_layer() -> tuple[DelayedRecurrentLIF, Tensor, Tensor]:
    """T 100, B 128, n 256, delays of 1 to 30 steps, spread at a third of its way down."""
    generator = torch.Generator().manual_seed(2)
    layer = DelayedRecurrentLIF(256, DECAY, THRESHOLD, max_delay=30, spread=3.0, detach_reset=True)
    layer.recurrent.weight.data.copy_(0.5 / 16 * torch.randn(256, 256, generator=generator))
    layer.delays.data.copy_(29 * torch.rand(256, generator=generator))
    current = 0.35 * torch.randn(100, 128, 256, generator=generator)
    return layer, current.requires_grad_(), torch.randn(100, 128, 256, generator=generator)


def delayed() -> Callable[[], object]:
    """Our layer: forward and the gradients of input, weights and delays."""
    layer, current, upstream = _delayed_layer()
    inputs = [current, layer.recurrent.weight, layer.delays]
    return lambda: torch.autograd.grad(layer(current)[0], inputs, upstream)


def delayed_per_slot() -> Callable[[], object]:
    """DelRec as arXiv 2509.24852 formulates it: weights times kernel, for each slot of a buffer of future currents."""
    layer, current, upstream = _delayed_layer()
    inputs = [current, layer.recurrent.weight, layer.delays]

    def run() -> Tensor:
        kernel = delay_kernel(layer.delays, layer.spread, slots_needed(layer.delays, layer.spread))
        per_slot = (kernel[:, None] * layer.recurrent.weight).flatten(0, 1)  # (slots * n, n)
        membrane = fired = torch.zeros_like(current[0])
        to_come = torch.zeros(128, len(kernel), 256)
        silence, train = torch.zeros(128, 1, 256), []
        for now in current.unbind(0):
            heard, later = to_come.split_with_sizes([1, len(kernel) - 1], 1)
            membrane = DECAY * membrane + now + heard[:, 0] - THRESHOLD * fired.detach()
            fired = spike(membrane - THRESHOLD, ATan())
            train.append(fired)
            to_come = torch.cat([later, silence], 1) + (fired @ per_slot.T).unflatten(1, (-1, 256))
        return torch.stack(train)

    return lambda: torch.autograd.grad(run(), inputs, upstream)

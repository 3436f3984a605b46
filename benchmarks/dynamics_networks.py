"""The same networks in bregma and in its peers, on the same weights: constructors that return ``frames -> output``."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bregma.nn import LIF, Readout, RecurrentLIF, SpikeLinear

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

    def frames(self) -> Tensor:
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
        self.rates = []
        for dense, neurons in zip(self.dense, self.neurons, strict=True):
            x, _ = neurons(dense(x))
            self.rates.append(x)
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
                    DECAY, threshold=THRESHOLD, spike_grad=surrogate, linear_features=len(own), reset_mechanism="subtract"
                )
                neurons.recurrent.weight.data.copy_(own)
                neurons.recurrent.bias = None
                self.neurons.append(neurons)

    def forward(self, x: Tensor) -> Tensor:
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
            self.neurons.append(
                neuron.LIFNode(
                    tau=1 / (1 - DECAY), decay_input=False, v_threshold=THRESHOLD, v_reset=None, detach_reset=True,
                    surrogate_function=surrogate.ATan(alpha=2.0), step_mode="m" if own is None else "s",
                )  # fmt: skip
            )

    def forward(self, x: Tensor) -> Tensor:
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
    weights: Sequence[Tensor] = list(net.parameters())

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

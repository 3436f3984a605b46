"""The optimisers under test, ours and torch's, and a small problem for them."""

import io

import pytest
import torch
from torch import nn

from bregma import AdaBreg, LinBreg, ProxSGD, TargetDensity, param_groups

OURS = {
    "AdaBreg": lambda params, **o: AdaBreg(params, **{"lr": 0.01, "lam": 0.05, **o}),
    "LinBreg": lambda params, **o: LinBreg(params, **{"lr": 0.1, "lam": 0.01, **o}),
    "LinBreg-momentum": lambda params, **o: LinBreg(params, **{"lr": 0.1, "momentum": 0.9, "lam": 0.01, **o}),
    "ProxSGD": lambda params, **o: ProxSGD(params, **{"lr": 0.1, "lam": 0.01, **o}),
    "ProxSGD-momentum": lambda params, **o: ProxSGD(params, **{"lr": 0.02, "momentum": 0.9, "lam": 0.01, **o}),
}
TORCH = {
    "torch-Adam": lambda params, **o: torch.optim.Adam(params, **{"lr": 0.01, **o}),
    "torch-SGD": lambda params, **o: torch.optim.SGD(params, **{"lr": 0.1, "momentum": 0.9, **o}),
}
everyone = pytest.mark.parametrize("make", list((OURS | TORCH).values()), ids=list(OURS | TORCH))
ours = pytest.mark.parametrize("make", list(OURS.values()), ids=list(OURS))
WITH_DUAL = [name for name in OURS if not name.startswith("ProxSGD")]
with_dual = pytest.mark.parametrize("make", [OURS[name] for name in WITH_DUAL], ids=WITH_DUAL)


def network(dtype=torch.float32, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).to(dtype)


def loss_of(net, seed=1):
    generator = torch.Generator().manual_seed(seed)
    dtype = net[0].weight.dtype
    x = torch.randn(16, 6, generator=generator)
    return nn.functional.cross_entropy(net(x.to(dtype)).float(), (x[:, 0] > 0).long())


def train(net, optimizer, steps):
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of(net)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def weights(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def saved_and_loaded(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def adam(net, lr=0.01, **options):
    """Adam with its weights in a group of their own."""
    return torch.optim.Adam(param_groups(net), lr=lr, **options)


def both(seed=0, steps=40, density=0.2, **options):
    """A network, its optimizer, and TargetDensity on it."""
    net = network(seed=seed)
    optimizer = adam(net)
    return net, optimizer, TargetDensity(optimizer, density, steps, **options)

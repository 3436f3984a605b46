"""A network of snnTorch, trained sparse: one line differs from a script with Adam.

python examples/snntorch_adabreg.py
"""

import snntorch as snn
import torch
import torch.nn.functional as F
from torch import nn

import bregma
from bregma.data import collate, load


class Net(nn.Module):
    """Two layers of leaky neurons, as the tutorials of snnTorch write them."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(800, 64)
        self.lif1 = snn.Leaky(beta=0.9)
        self.fc2 = nn.Linear(64, 10)
        self.lif2 = snn.Leaky(beta=0.9, reset_mechanism="none")
        nn.init.uniform_(self.fc1.weight, -0.1, 0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores (B, 10) of frames (T, B, ...): the last membranes, averaged over time."""
        mem1, mem2 = self.lif1.reset_mem(), self.lif2.reset_mem()
        scores = []
        for frame in x.flatten(2):
            spikes, mem1 = self.lif1(self.fc1(frame), mem1)
            _, mem2 = self.lif2(self.fc2(spikes), mem2)
            scores.append(mem2)
        return torch.stack(scores).mean(0)


def main(epochs: int = 5) -> dict[str, float]:
    """Train on the digits; accuracy on test digits and share of weights that are not zero."""
    torch.manual_seed(0)
    data = load("digits", steps=10)
    net = Net()
    # was torch.optim.Adam(net.parameters(), lr=5e-3)
    optimizer = bregma.AdaBreg(bregma.param_groups(net, lam=0.3), lr=5e-3, init="sparse")
    for _ in range(epochs):
        for x, labels in torch.utils.data.DataLoader(data.train, 32, shuffle=True, collate_fn=collate):
            optimizer.zero_grad()
            F.cross_entropy(net(x), labels).backward()
            optimizer.step()
    x, labels = data.test.__getitems__(list(range(len(data.test))))
    with torch.no_grad():
        accuracy = (net(x).argmax(1) == labels).float().mean().item()
    return {"accuracy": accuracy, "density": bregma.density(net)}


if __name__ == "__main__":
    print(main())

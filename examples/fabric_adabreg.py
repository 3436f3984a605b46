"""Lightning Fabric and AdaBreg: the optimizer is set up like any other.

python examples/fabric_adabreg.py
"""

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric

import bregma
from bregma.data import collate, load
from bregma.nn import SpikingMLP


def main(epochs: int = 5) -> dict[str, float]:
    """Train on the digits; accuracy on test digits and share of weights that are not zero."""
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.seed_everything(0, verbose=False)
    data = load("digits", steps=10)
    net = SpikingMLP(800, hidden=(64,), classes=10, gain=3.0)
    optimizer = bregma.AdaBreg(bregma.param_groups(net, lam=0.3), lr=5e-3, init="sparse")
    model, optimizer = fabric.setup(net, optimizer)
    loader = torch.utils.data.DataLoader(data.train, 32, shuffle=True, collate_fn=collate)
    loader = fabric.setup_dataloaders(loader)
    for _ in range(epochs):
        for x, labels in loader:
            optimizer.zero_grad()
            fabric.backward(F.cross_entropy(model(x), labels))
            optimizer.step()
    x, labels = data.test.__getitems__(list(range(len(data.test))))
    with torch.no_grad():
        accuracy = (model(x).argmax(1) == labels).float().mean().item()
    return {"accuracy": accuracy, "density": bregma.density(net)}


if __name__ == "__main__":
    print(main())

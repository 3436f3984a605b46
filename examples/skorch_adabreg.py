"""A spiking network with the habits of scikit-learn: skorch's NeuralNetClassifier with AdaBreg.

python examples/skorch_adabreg.py
"""

import numpy as np
import torch
from skorch import NeuralNetClassifier
from torch import nn

import bregma
from bregma.data import load
from bregma.nn import SpikingMLP


class BatchFirst(nn.Module):
    """scikit-learn puts samples first, (B, T, ...); networks here put time first."""

    def __init__(self, hidden: int = 64) -> None:
        super().__init__()
        self.net = SpikingMLP(800, hidden=(hidden,), classes=10, gain=3.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores (B, 10)."""
        return self.net(x.transpose(0, 1))


class Sparse(NeuralNetClassifier):
    """Weights with a penalty, biases without: the optimizer gets groups of parameters."""

    def get_params_for_optimizer(self, prefix: str, named_parameters: object) -> tuple[tuple, dict]:
        """The groups of `bregma.param_groups`."""
        return (bregma.param_groups(self.module_, lam=0.3),), {"lr": self.lr, "init": "sparse"}


def main(epochs: int = 5) -> dict[str, float]:
    """Train on the digits; accuracy on test digits and share of weights that are not zero."""
    torch.manual_seed(0)
    data = load("digits", steps=10)
    x, y = (part.numpy() for part in data.train.__getitems__(list(range(len(data.train)))))
    shuffled = {"iterator_train__shuffle": True, "train_split": None, "verbose": 0}
    model = Sparse(
        BatchFirst, criterion=nn.CrossEntropyLoss, optimizer=bregma.AdaBreg, lr=5e-3, max_epochs=epochs, batch_size=32,
        **shuffled,
    )  # fmt: skip
    model.fit(np.ascontiguousarray(x.swapaxes(0, 1)), y)
    x, y = (part.numpy() for part in data.test.__getitems__(list(range(len(data.test)))))
    return {"accuracy": float(model.score(x.swapaxes(0, 1), y)), "density": bregma.density(model.module_)}


if __name__ == "__main__":
    print(main())

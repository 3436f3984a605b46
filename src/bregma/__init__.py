"""Sparse spiking neural networks by mathematical optimisation.

Change one line of a PyTorch script and the network it trains is sparse:

>>> import torch
>>> import bregma
>>> net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
>>> optimizer = bregma.AdaBreg(bregma.param_groups(net, lam=0.1), lr=1e-3)  # was torch.optim.Adam(net.parameters())
>>> bregma.density(net)
1.0

`bregma.ADMMClassifier` trains without gradients. Spiking layers are in `bregma.nn`, the data sets in `bregma.data`, the
penalties in `bregma.prox`.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from bregma.admm import ADMMClassifier
    from bregma.optim import AdaBreg, LinBreg, ProxSGD, TargetDensity, param_groups
    from bregma.sparsity import density, synops

__all__ = [
    "ADMMClassifier",
    "AdaBreg",
    "LinBreg",
    "ProxSGD",
    "TargetDensity",
    "__version__",
    "density",
    "param_groups",
    "synops",
]

_HOME = {
    "ADMMClassifier": "bregma.admm",
    "AdaBreg": "bregma.optim",
    "LinBreg": "bregma.optim",
    "ProxSGD": "bregma.optim",
    "TargetDensity": "bregma.optim",
    "density": "bregma.sparsity",
    "param_groups": "bregma.optim",
    "synops": "bregma.sparsity",
}


def __getattr__(name: str) -> Any:
    """Import a public name at its first use, so that ``bregma --help`` need not wait for torch."""
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))

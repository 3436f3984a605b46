"""Optimisers with a dual variable or a proximal step, and the parameter groups they work on."""

from bregma.optim.adabreg import AdaBreg, adabreg
from bregma.optim.density import TargetDensity
from bregma.optim.dual import sparsify_
from bregma.optim.groups import param_groups
from bregma.optim.linbreg import LinBreg, linbreg
from bregma.optim.proxsgd import ProxSGD, proxsgd
from bregma.optim.sparsifier import Sparsifier

__all__ = [
    "AdaBreg",
    "LinBreg",
    "ProxSGD",
    "Sparsifier",
    "TargetDensity",
    "adabreg",
    "linbreg",
    "param_groups",
    "proxsgd",
    "sparsify_",
]

"""Sparse spiking neural networks by mathematical optimisation."""

from bregma.optim import AdaBreg, LinBreg, ProxSGD, param_groups
from bregma.sparsity import density

__all__ = ["AdaBreg", "LinBreg", "ProxSGD", "__version__", "density", "param_groups"]

__version__ = "0.1.0"

"""Sparse spiking neural networks by mathematical optimisation."""

__version__ = "0.1.0"

"""Spiking layers and networks, built on `bregma.dynamics`."""

from .layers import LIF, Readout, RecurrentLIF

__all__ = ["LIF", "Readout", "RecurrentLIF"]

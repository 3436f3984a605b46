"""Spiking layers and networks, built on `bregma.dynamics`."""

from .layers import LIF, Readout, RecurrentLIF
from .models import ReadoutLayer, SpikingLayer, SpikingMLP
from .record import Record

__all__ = ["LIF", "Readout", "ReadoutLayer", "Record", "RecurrentLIF", "SpikingLayer", "SpikingMLP"]

"""Spiking layers and networks, built on `bregma.dynamics`."""

from bregma.nn.delayed import DelayedRecurrentLIF
from bregma.nn.delrec import DelRec, delrec
from bregma.nn.layers import LIF, Readout, RecurrentLIF
from bregma.nn.linear import SpikeLinear
from bregma.nn.models import ReadoutLayer, SpikingLayer, SpikingMLP
from bregma.nn.populations import Part, Population, populations
from bregma.nn.recompute import Recompute
from bregma.nn.record import Record
from bregma.nn.sequential import Score, SpikingSequential

__all__ = [
    "LIF",
    "DelRec",
    "DelayedRecurrentLIF",
    "Part",
    "Population",
    "Readout",
    "ReadoutLayer",
    "Recompute",
    "Record",
    "RecurrentLIF",
    "Score",
    "SpikeLinear",
    "SpikingLayer",
    "SpikingMLP",
    "SpikingSequential",
    "delrec",
    "populations",
]

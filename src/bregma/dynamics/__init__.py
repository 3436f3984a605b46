"""The physics of spiking neurons: one recurrence, its surrogate derivatives."""

from bregma.dynamics.lif import RESETS, Reset, integrate, lif, recurrent_lif
from bregma.dynamics.surrogate import ATan, Box, FastSigmoid, Surrogate, Triangle, spike

__all__ = [
    "RESETS",
    "ATan",
    "Box",
    "FastSigmoid",
    "Reset",
    "Surrogate",
    "Triangle",
    "integrate",
    "lif",
    "recurrent_lif",
    "spike",
]

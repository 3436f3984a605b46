"""The physics of spiking neurons: one recurrence, its surrogate derivatives, axonal delays."""

from bregma.dynamics.delays import delayed_recurrent_lif, spread_at
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
    "delayed_recurrent_lif",
    "integrate",
    "lif",
    "recurrent_lif",
    "spike",
    "spread_at",
]

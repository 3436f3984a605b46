"""The physics of spiking neurons: one recurrence, its surrogate derivatives, axonal delays."""

from bregma.dynamics.backend import get_backend, set_backend, use_backend
from bregma.dynamics.delays import spread_at
from bregma.dynamics.dispatch import delayed_recurrent_lif, integrate, lif, recurrent_lif
from bregma.dynamics.events import linear
from bregma.dynamics.lif import RESETS, Reset
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
    "get_backend",
    "integrate",
    "lif",
    "linear",
    "recurrent_lif",
    "set_backend",
    "spike",
    "spread_at",
    "use_backend",
]

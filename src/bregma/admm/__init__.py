"""Training without gradients: the alternating direction method of multipliers (ADMM) on the relaxed spiking network."""

from bregma.admm.consistent import ConsistentADMM
from bregma.admm.consistent_settings import ConsistentSettings
from bregma.admm.convolution import Convolution
from bregma.admm.estimator import ADMMClassifier
from bregma.admm.forward import forward
from bregma.admm.layers import Delayed, Recurrent
from bregma.admm.problem import Constants, Problem, Variables, lagrangian
from bregma.admm.settings import Settings
from bregma.admm.solver import ADMM
from bregma.admm.targets import Dithered, Flips, Window

__all__ = [
    "ADMM",
    "ADMMClassifier",
    "ConsistentADMM",
    "ConsistentSettings",
    "Constants",
    "Convolution",
    "Delayed",
    "Dithered",
    "Flips",
    "Problem",
    "Recurrent",
    "Settings",
    "Variables",
    "Window",
    "forward",
    "lagrangian",
]

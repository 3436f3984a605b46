"""Training without gradients: the alternating direction method of multipliers (ADMM) on the relaxed spiking network."""

from bregma.admm.convolution import Convolution
from bregma.admm.estimator import ADMMClassifier
from bregma.admm.forward import forward
from bregma.admm.problem import Constants, Problem, Variables, lagrangian
from bregma.admm.settings import Settings
from bregma.admm.solver import ADMM

__all__ = [
    "ADMM",
    "ADMMClassifier",
    "Constants",
    "Convolution",
    "Problem",
    "Settings",
    "Variables",
    "forward",
    "lagrangian",
]

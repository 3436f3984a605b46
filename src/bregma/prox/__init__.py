"""The convex analysis: penalties and their proximal maps."""

from bregma.prox.penalties import L1, ElasticNet, GroupL1, NonNegL1, NoPenalty, Nuclear, Penalty
from bregma.prox.registry import get, names, register

__all__ = ["L1", "ElasticNet", "GroupL1", "NoPenalty", "NonNegL1", "Nuclear", "Penalty", "get", "names", "register"]

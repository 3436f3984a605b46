"""What users would pick instead of :class:`bregma.TargetDensity`, behind the same interface.

Each rides on an optimiser, takes ``density`` and ``total_steps``, and leaves exactly that many connections:

>>> import torch, bregma
>>> net = torch.nn.Linear(20, 10)
>>> optimizer = torch.optim.Adam(bregma.param_groups(net), lr=0.01)
>>> sparsifier = RigL(optimizer, density=0.1, total_steps=1000)
>>> round(sparsifier.density, 6)
0.1
"""

from bregma.optim.baselines.learned import STR
from bregma.optim.baselines.penalised import L1Pruning, ProxPruning
from bregma.optim.baselines.pruning import MagnitudePruning, OneShotPruning
from bregma.optim.baselines.rewiring import SET, RigL

__all__ = ["SET", "STR", "L1Pruning", "MagnitudePruning", "OneShotPruning", "ProxPruning", "RigL"]

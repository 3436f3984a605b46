"""After training: how sparse a model is, and a smaller one that does the same."""

from bregma.sparsity.compaction import compact
from bregma.sparsity.measure import density, layer_densities, nonzero, parameters

__all__ = ["compact", "density", "layer_densities", "nonzero", "parameters"]

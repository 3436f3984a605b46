"""After training: how sparse a model is."""

from bregma.sparsity.measure import SynOps, density, layer_densities, nonzero, parameters, synops

__all__ = ["SynOps", "density", "layer_densities", "nonzero", "parameters", "synops"]

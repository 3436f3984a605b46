"""After training: how sparse a model is."""

from bregma.sparsity.measure import density, layer_densities, nonzero, parameters

__all__ = ["density", "layer_densities", "nonzero", "parameters"]

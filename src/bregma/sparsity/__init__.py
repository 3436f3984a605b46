"""After training: how sparse a model is, and what it costs."""

from bregma.sparsity.counts import (
    Operations,
    activation_sparsity,
    connection_sparsity,
    footprint,
    operations,
    sparse_footprint,
)
from bregma.sparsity.measure import SynOps, density, layer_densities, nonzero, parameters, synops

__all__ = [
    "Operations",
    "SynOps",
    "activation_sparsity",
    "connection_sparsity",
    "density",
    "footprint",
    "layer_densities",
    "nonzero",
    "operations",
    "parameters",
    "sparse_footprint",
    "synops",
]

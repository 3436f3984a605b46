"""After training: how sparse a model is, what it costs, and a smaller one that does the same."""

from bregma.sparsity.compaction import compact
from bregma.sparsity.counts import (
    Operations,
    activation_sparsity,
    connection_sparsity,
    footprint,
    operations,
    sparse_footprint,
)
from bregma.sparsity.measure import SynOps, density, layer_densities, nonzero, parameters, synops
from bregma.sparsity.network import SparseNetwork, compress

__all__ = [
    "Operations",
    "SparseNetwork",
    "SynOps",
    "activation_sparsity",
    "compact",
    "compress",
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

"""After training: how sparse a model is, and a smaller one that does the same."""

from bregma.sparsity.compaction import compact
from bregma.sparsity.measure import density, layer_densities, nonzero, parameters
from bregma.sparsity.network import SparseNetwork, compress
from bregma.sparsity.operations import synaptic_operations

__all__ = [
    "SparseNetwork",
    "compact",
    "compress",
    "density",
    "layer_densities",
    "nonzero",
    "parameters",
    "synaptic_operations",
]

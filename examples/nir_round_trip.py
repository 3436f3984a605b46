"""To a NIR file and back; what the file cannot say to other readers is told in a warning.

python examples/nir_round_trip.py
"""

import tempfile
import warnings
from pathlib import Path

import nir
import torch

from bregma.interop.nir import from_nir, to_nir
from bregma.nn import SpikingMLP


def main() -> dict[str, bool]:
    """Whether the network that comes back computes the same, bit for bit."""
    net = SpikingMLP(800, hidden=(64,), classes=10, recurrent=True, gain=3.0)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        path = Path(folder) / "net.nir"
        to_nir(net, path, dt=1e-3)
        print(*(warning.message for warning in told), sep="\n")
        print(*((name, type(node).__name__) for name, node in nir.read(path).nodes.items()), sep="\n")
        back = from_nir(path)
    x = (torch.rand(10, 4, 800) < 0.1).float()
    return {"same": torch.equal(back(x), net(x))}


if __name__ == "__main__":
    print(main())

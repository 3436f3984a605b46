"""``bregma export``."""

import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from bregma.cli.options import MaybePath, Run

if TYPE_CHECKING:
    from bregma.interop.chain import Network

Target = Literal["nir", "snntorch", "state", "onnx"]

_NAMES: dict[Target, str] = {"nir": "net.nir", "snntorch": "snntorch", "state": "net.safetensors", "onnx": "net.onnx"}


@dataclass(frozen=True)
class Export:
    """Write the best network of a run in the format of another tool.

    Args:
        run: run folder.
        to: nir: a graph for neuromorphic hardware and other libraries. snntorch: a folder with weights and a Python
            file that needs snnTorch alone. state: one safetensors file with weights and a description of the layers.
            onnx: one time step, states in and out.
        out: what to write; net.nir, net.onnx, net.safetensors or the folder snntorch, in the run folder.
        dt: seconds of a time step, for nir; snnTorch reads every graph as one of 1e-4.
    """

    run: tyro.conf.Positional[Run]
    to: Target
    out: MaybePath = None
    dt: float = 1e-4

    def __call__(self) -> int:
        """Write it and print where; what the format cannot hold goes to stderr."""
        from bregma.runs.build import build_network, load_best
        from bregma.runs.delays import for_inference
        from bregma.runs.folder import RunFolder

        if self.dt != Export.dt and self.to != "nir":
            raise ValueError(f"dt has no meaning for {self.to}, got {self.dt}; leave it out")
        folder = RunFolder(self.run)
        net = build_network(folder.config())
        load_best(net, folder)
        path = self.out or folder.path / _NAMES[self.to]
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", UserWarning)
            try:
                self._write(for_inference(net).eval(), path)
            except ImportError as error:
                raise ValueError(str(error)) from error
        for warning in told:
            print(f"bregma: note: {warning.message}", file=sys.stderr)
        print(path)
        return 0

    def _write(self, net: "Network", path: Path) -> None:
        if self.to == "nir":
            from bregma.interop.nir import to_nir

            to_nir(net, path, dt=self.dt)
        elif self.to == "snntorch":
            from bregma.interop.snntorch_files import write_snntorch

            write_snntorch(net, path)
        elif self.to == "onnx":
            from bregma.interop.onnx import to_onnx

            to_onnx(net, path)
        else:
            from bregma.interop.state import write_state

            write_state(net, path)

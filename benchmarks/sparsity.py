"""What zero weights are worth at inference: latency, file size and neurons left, by density.

    python benchmarks/sparsity.py [--only NAME] [--json PATH] [--rounds N]

The same weights in four contestants, in one process, taking turns, on one thread: `compress(compact(net))`; the
network itself, zeros and all, on this package's fast path; on its plain torch reference; and in snnTorch (whose last
layer spikes). Weights are cut at random and scaled up, so that firing stays comparable. Figures are medians over rounds
of CPU milliseconds. ``as bytes`` hands over the frames as the data sets hold them, uint8; the network itself must turn
them to float32 first. ``floor_ms`` is what the additions of the spikes that happened take at the best measured rate of
this machine, plus one read of the frames. ``parts_ms`` are the steps of the sparse network, each repeated by itself:
packing the frames, each hidden layer, the readout.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from dynamics import versions
from dynamics_networks import SnnTorch, Work
from torch import nn

import bregma
from bregma.dynamics import use_backend
from bregma.dynamics.compressed import bits_of
from bregma.dynamics.kernels import kernel
from bregma.nn import RecurrentLIF, SpikingMLP
from bregma.nn.chain import chain

RESULTS = Path(__file__).parent / "results" / "sparsity.json"
DENSITIES = (1.0, 0.2, 0.1, 0.05, 0.02)
WORKS = {
    "nmnist": Work("N-MNIST-like", 150, 64, (2312, 512, 512, 10), 0.01, (4.0, 4.0, 1.0), (False, False, False)),
    "shd": Work("SHD-like", 100, 128, (700, 256, 256, 20), 0.03, (4.0, 4.0, 1.0), (True, True, False)),
}


def network(work: Work, density: float) -> SpikingMLP:
    inputs, *hidden, classes = work.sizes
    torch.manual_seed(0)
    net = SpikingMLP(inputs, hidden, classes, recurrent=work.recurrent[0], gain=work.gains[0])
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, RecurrentLIF):
                n = len(module.recurrent.weight)
                module.recurrent.weight.copy_(0.5 / n**0.5 * torch.randn(n, n, generator=generator))
        for module in net.modules():
            if isinstance(module, nn.Linear):
                kept = torch.rand(module.weight.shape, generator=generator) < density
                module.weight.mul_(kept / density**0.5)
    return net.eval()


def in_snntorch(net: SpikingMLP, work: Work) -> nn.Module:
    peer = SnnTorch(work)
    parts = chain(net)
    layers = [*(stage.linear for stage in parts.hidden), parts.readout]
    for target, source in zip(peer.dense, layers, strict=True):
        target.weight.data.copy_(source.weight)
    for target, stage in zip(peer.neurons, parts.hidden, strict=False):
        if isinstance(stage.neurons, RecurrentLIF):
            target.recurrent.weight.data.copy_(stage.neurons.recurrent.weight)
    return peer


def milliseconds(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median of each over the rounds, in which they take turns; short ones are repeated within a round."""
    repeats, times = {}, {name: [] for name in runs}
    for name, run in runs.items():
        run()
        start = time.process_time()
        run()
        repeats[name] = max(1, round(0.01 / max(time.process_time() - start, 1e-5)))
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.process_time()
            for _ in range(repeats[name]):
                run()
            times[name].append(1e3 * (time.process_time() - start) / repeats[name])
    return {name: statistics.median(kept) for name, kept in times.items()}


@kernel
def scattered_additions(column: np.ndarray, values: np.ndarray, sums: np.ndarray) -> None:
    for c in range(column.shape[0]):
        sums[column[c]] += values[c]


def speeds() -> tuple[float, float]:
    """Scattered additions and bytes read per millisecond: the best of some runs."""
    random = np.random.default_rng(0)
    column, values = random.integers(0, 512, 100_000).astype(np.uint16), random.random(100_000, np.float32)
    sums, source = np.zeros(512, np.float32), torch.randn(20_000_000)
    best = []
    for run in (lambda: scattered_additions(column, values, sums), lambda: source.sum()):
        run()
        times = []
        for _ in range(15):
            start = time.thread_time()
            run()
            times.append(1e3 * (time.thread_time() - start))
        best.append(min(times))
    return len(column) / best[0], source.nbytes / best[1]


def parts(sparse: bregma.SparseNetwork, x: torch.Tensor, rounds: int) -> list[float]:
    """Milliseconds of packing the frames, of each hidden layer, and of the readout."""
    bits, graded = bits_of(x)
    runs = {"frames": lambda: bits_of(x)}
    for layer in sparse.hidden:
        runs[f"layer {len(runs)}"] = partial(layer.run, bits, graded)
        bits, graded = layer.run(bits, graded), None
    runs["readout"] = partial(sparse.output.integrators.membranes, bits)
    return [round(value, 4) for value in milliseconds(runs, rounds).values()]


@torch.no_grad()
def measure(work: Work, density: float, batch: int, rounds: int) -> dict[str, Any]:
    net = network(work, density)
    x = work.frames()[:, :batch].contiguous()
    as_bytes = x.to(torch.uint8)
    sparse, peer = bregma.compress(bregma.compact(net)), in_snntorch(net, work)
    assert (sparse(x) - net(x)).abs().max() < 1e-4

    def plain_torch() -> object:
        with use_backend("torch"):
            return net(x)

    runs = {
        "sparse": lambda: sparse(x),
        "dense": lambda: net(x),
        "torch": plain_torch,
        "snntorch": lambda: peer(x),
        "sparse as bytes": lambda: sparse(as_bytes),
        "dense as bytes": lambda: net(as_bytes.float()),
    }
    times = milliseconds(runs, rounds)
    adds, reads = speeds()
    synops = batch * bregma.synops(net, x)
    ratios = {f"against_{name}": times[name] / times["sparse"] for name in ("dense", "torch", "snntorch")}
    ratios["against_dense_as_bytes"] = times["dense as bytes"] / times["sparse as bytes"]
    figures = {
        "additions": synops,
        "floor_ms": synops / adds + x.nbytes / reads,
        **{f"{name.replace(' ', '_')}_ms": value for name, value in times.items()},
        **ratios,
        "parts_ms": parts(sparse, x, rounds),
    }
    return {"work": str(work), "batch": batch, "density": density, **figures, **sizes(net)}


def sizes(net: SpikingMLP) -> dict[str, Any]:
    """Bytes of the files and neurons left by `bregma.compact`."""
    dense = len(safetensors.torch.save(net.state_dict()))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.safetensors"
        bregma.compress(net).save(path)
        bytes_ = path.stat().st_size
    small = [stage.linear.out_features for stage in chain(bregma.compact(net)).hidden]
    return {"file_bytes": bytes_, "dense_file_bytes": dense, "file_share": bytes_ / dense, "neurons_left": small}


def main() -> None:
    names = [f"{name}-{batch}" for name, work in WORKS.items() for batch in (1, work.batch)]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=names, help="one network and batch size instead of all")
    parser.add_argument("--json", type=Path, help=f"where to write the results (default, without --only: {RESULTS})")
    parser.add_argument("--rounds", type=int, default=9, help="timed rounds (default: %(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    path = args.json or (None if args.only else RESULTS)
    entries, found = [], versions()
    for name in names if args.only is None else [args.only]:
        work = WORKS[name.split("-")[0]]
        for density in DENSITIES:
            row = measure(work, density, int(name.split("-")[1]), args.rounds)
            entries.append({"name": name, **{k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}})
            print(
                f"{name:10} density {density:4}  sparse {row['sparse_ms']:8.3f} ms, floor {row['floor_ms']:7.3f}  "
                f"faster than dense {row['against_dense']:5.2f}, as bytes {row['against_dense_as_bytes']:5.2f}, "
                f"torch {row['against_torch']:6.1f}, snnTorch {row['against_snntorch']:6.1f}  "
                f"file {row['file_share']:.3f}  neurons {row['neurons_left']}",
                flush=True,
            )
            if path:
                path.write_text(json.dumps({"rows": entries, "versions": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Time and memory of the dynamics against snnTorch, SpikingJelly, Norse and sinabs, in one process, side by side.

    python benchmarks/dynamics.py [--only NAME] [--json PATH] [--rounds N]

Training is forward, backward and weight gradients; inference is forward. The contestants take turns, round by round, on
the same weights and inputs; figures are medians over the rounds of CPU milliseconds of the whole process, all threads
together, because a machine that does other work too makes wall-clock times useless. ``floor_ms`` is what this machine
needs at least for the parts that neither sparsity nor fusion can remove: the dense products of the backward pass at the
speed of the best product measured in the same run, and one read or write of each (T, B, n) tensor that must exist.
Peers are skipped where they are not installed.
"""

import argparse
import importlib.metadata
import json
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from dynamics_cold import first_call_seconds, peak_bytes
from dynamics_networks import NMNIST, PEERS, PSMNIST, SHD, Ours, Work, delayed, delayed_per_slot, infer, train

from bregma.dynamics.kernels_dense import dense_product, panels

RESULTS = Path(__file__).parent / "results" / "dynamics.json"
Run = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """One comparison; ``target`` is the least ratio, or the most where ``at_most``."""

    name: str
    against: str
    measure: Callable[["Row", int], dict[str, Any]]
    target: float
    work: Work | None = None
    threads: int = 1
    at_most: bool = False


def milliseconds(runs: list[Run], rounds: int) -> list[float]:
    """Median of each over the rounds, in which they take turns; the first round only warms up."""
    times: list[list[float]] = [[] for _ in runs]
    for turn in range(rounds + 1):
        for run, kept in zip(runs, times, strict=True):
            start = time.process_time()
            run()
            if turn:
                kept.append(1e3 * (time.process_time() - start))
    return [statistics.median(kept) for kept in times]


def speeds() -> tuple[float, float]:
    """Multiply-adds and bytes per millisecond: the best of some runs on one thread."""
    x, weight = torch.randn(1024, 256).numpy(), panels(torch.randn(256, 256).numpy())
    out, source = torch.empty(1024, 256).numpy(), torch.randn(12_000_000)
    target = torch.empty_like(source)
    best = []
    for run in (lambda: dense_product(x, weight, out, 0, 1024), lambda: target.copy_(source)):
        run()
        times = []
        for _ in range(7):
            start = time.thread_time()
            run()
            times.append(1e3 * (time.thread_time() - start))
        best.append(min(times))
    return 1024 * 256 * 256 / best[0], 2 * source.nbytes / best[1]


def floor(work: Work, training: bool) -> float:
    """Milliseconds below which no float32 implementation with dense tensors between layers can fall here."""
    products, bytes_ = speeds()
    samples = work.steps * work.batch
    multiplications, values = 0, samples * work.sizes[0]
    for i, (fan_in, n) in enumerate(zip(work.sizes, work.sizes[1:], strict=False)):
        multiplications += samples * n * ((n if work.recurrent[i] else 0) + (fan_in if i else 0))
        # Forward: current written and read, spikes and membrane written. Backward: gradient of the spikes written
        # and read, membrane read, gradient of the current written and read.
        values += samples * n * (9 if training else 3)
    return (multiplications / products if training else 0.0) + 4 * values / bytes_


def networks(row: Row, rounds: int) -> dict[str, Any]:
    """A network of ours against the same of a peer."""
    assert row.work is not None
    frames, make = row.work.frames(), infer if "inference" in row.name else train
    ours, theirs = milliseconds([make(net(row.work), frames) for net in (Ours, PEERS[row.against])], rounds)
    return {"ours_ms": ours, "theirs_ms": theirs, "floor_ms": floor(row.work, make is train)}


def delays(row: Row, rounds: int) -> dict[str, Any]:
    """The layer with axonal delays against its formulation with one product per slot."""
    ours, theirs = milliseconds([delayed(), delayed_per_slot()], rounds)
    layer = replace(SHD, sizes=(256, 256), recurrent=(True,))
    return {"ours_ms": ours, "theirs_ms": theirs, "floor_ms": floor(layer, training=True)}


def growth(row: Row, rounds: int) -> dict[str, Any]:
    """Four times the steps against once."""
    works = [replace(SHD, steps=steps) for steps in (400, 100)]
    ours, theirs = milliseconds([train(Ours(work), work.frames()) for work in works], rounds)
    return {"ours_ms": ours, "theirs_ms": theirs, "floor_ms": floor(works[0], training=True), "ratio": ours / theirs}


def memory(row: Row, rounds: int) -> dict[str, Any]:
    """Peak resident bytes of a training step above those before it, each in a process of its own."""
    ours, theirs = (statistics.median(peak_bytes(net) for _ in range(3)) for net in ("Ours", row.against))
    return {"ours_mb": ours / 1e6, "theirs_mb": theirs / 1e6, "ratio": ours / theirs}


def cold(row: Row, rounds: int) -> dict[str, Any]:
    """CPU seconds of import and first call in a new process beyond those of importing torch, kernels cached."""
    first_call_seconds()  # compiles, if this machine never has
    seconds = statistics.median(first_call_seconds() for _ in range(3))
    return {"ours_ms": 1e3 * seconds, "ratio": seconds}


ROWS = [
    Row("nmnist", "snnTorch", networks, 8.0, NMNIST),
    Row("nmnist-spikingjelly", "SpikingJelly", networks, 4.5, NMNIST),
    Row("nmnist-norse", "Norse", networks, 1.0, NMNIST),
    Row("nmnist-sinabs", "sinabs", networks, 1.0, NMNIST),
    Row("nmnist-2-threads", "snnTorch", networks, 8.0, NMNIST, threads=2),
    Row("shd", "snnTorch", networks, 3.0, SHD),
    Row("shd-spikingjelly", "SpikingJelly", networks, 2.5, SHD),
    Row("shd-norse", "Norse", networks, 1.0, SHD),
    Row("shd-sinabs", "sinabs", networks, 1.0, SHD),
    Row("shd-2-threads", "snnTorch", networks, 3.0, SHD, threads=2),
    Row("psmnist", "snnTorch", networks, 3.0, PSMNIST),
    Row("delays", "DelRec, a product per slot", delays, 8.0),
    Row("nmnist-inference", "snnTorch", networks, 10.0, NMNIST),
    Row("shd-inference", "snnTorch", networks, 6.0, SHD),
    Row("growth", "itself, T 100 to T 400", growth, 4.4, at_most=True),
    Row("memory", "snnTorch", memory, 0.4, at_most=True),
    Row("cold", "import torch, in seconds beyond", cold, 3.0, at_most=True),
]


def versions() -> dict[str, str]:
    names = ("bregma", "torch", "numba", "numpy", "snntorch", "spikingjelly", "norse", "sinabs")
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed" if name != "bregma" else __import__("bregma").__version__
    return found


def run(row: Row, rounds: int) -> dict[str, Any]:
    torch.set_num_threads(row.threads)
    measured = row.measure(row, rounds)
    if "ratio" not in measured:
        measured["ratio"] = measured["theirs_ms"] / measured["ours_ms"]
    met = measured["ratio"] <= row.target if row.at_most else measured["ratio"] >= row.target
    work = f"{row.work or row.name}{', inference' if 'inference' in row.name else ''}"
    times = dict.fromkeys(("ours_ms", "theirs_ms", "floor_ms"))  # null where a row has none
    entry = {"name": row.name, "work": work, "against": row.against, **times, **measured}
    bound = {"target": row.target, "at_most": row.at_most, "met": met}
    return (
        {key: round(v, 3) if isinstance(v, float) else v for key, v in entry.items()} | bound | {"threads": row.threads}
    )


def show(entry: dict[str, Any]) -> None:
    sign = "<=" if entry["at_most"] else ">="
    times = "  ".join(f"{key} {entry[key]:.1f}" for key in entry if key.endswith(("_ms", "_mb")) and entry[key])
    verdict = "" if entry["met"] else "  SHORT"
    print(
        f"{entry['name']:22}{entry['against']:32}{entry['ratio']:7.2f} {sign} {entry['target']:<5}{times}{verdict}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=[row.name for row in ROWS], help="one row instead of all")
    parser.add_argument("--json", type=Path, help=f"where to write the results (default, without --only: {RESULTS})")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds (default: %(default)s)")
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # the peers' own
    entries = []
    for row in ROWS:
        if args.only in (None, row.name):
            try:
                entries.append(run(row, args.rounds) | {"versions": versions()})
            except ModuleNotFoundError as missing:
                print(f"{row.name:22}{row.against:32} skipped: {missing}")
                continue
            show(entries[-1])
    path = args.json or (None if args.only else RESULTS)
    if path:
        path.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

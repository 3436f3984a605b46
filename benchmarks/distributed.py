"""ADMM on one and on several workers: time of an iteration, and what travels, against the cost model.

    python benchmarks/distributed.py [--workers N] [--repeats N] [--iterations N] [--json PATH]

The paper's solver at the paper's size (T 150, 2312-512-512-10, red-black order) on random events of N-MNIST's density.
``strong``: 200 samples in all; ``weak``: 100 for each worker. One thread a worker. A time is the median over repeats,
which take turns with the other groups, of the median wall time of an iteration. Bytes are counted by the group itself;
the model is

    8 (n_a n_1 + sum_(l >= 2) (n_l n_(l-1) + n_(l-1)^2) + classes (n_L-1) + n_(L-1)^2)

for every iteration, n_a being the inputs that ever fire, whatever the number of samples and steps.
"""

import argparse
import json
import platform
import socket
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from bregma.admm import ADMM, Constants, Settings
from bregma.admm.workers import ProcessGroup, shard

RESULTS = Path(__file__).parent / "results" / "distributed.json"
STEPS, SIZES, CLASSES, DENSITY = 150, (2312, 512, 512), 10, 0.02
STRONG, WEAK = 200, 100  # samples in all, and for each worker


def model_bytes() -> int:
    """Of one iteration."""
    inputs, *hidden = SIZES
    dense = sum(m * n + n * n for n, m in zip(hidden, (*hidden[1:], CLASSES), strict=True))
    return 8 * (inputs * hidden[0] + dense)


def work(rank: int, size: int, port: int, samples: int, iterations: int, out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=size)
    workers = ProcessGroup()
    generator = torch.Generator().manual_seed(0)
    mine = shard(samples, rank, size)
    x = (torch.rand(STEPS, samples, SIZES[0], generator=generator) < DENSITY)[:, mine.start : mine.stop].float()
    y = torch.eye(CLASSES)[torch.arange(samples) % CLASSES][mine.start : mine.stop]
    settings = Settings(Constants(ridge=1e-6), order="red-black")
    solver = ADMM(x, y, SIZES[1:], settings, workers=workers)
    solver.step()
    times = []
    for _ in range(iterations):
        before, start = workers.sent, time.perf_counter()
        solver.step()
        times.append(time.perf_counter() - start)
    if rank == 0:
        Path(out).write_text(json.dumps({"seconds": statistics.median(times), "bytes": workers.sent - before}))
    dist.barrier()
    dist.destroy_process_group()


def run(size: int, samples: int, iterations: int) -> dict[str, Any]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/row.json"
        mp.start_processes(work, (size, port, samples, iterations, out), nprocs=size)
        return {"workers": size, "samples": samples, **json.loads(Path(out).read_text())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2, help="largest group (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="of every group (default: %(default)s)")
    parser.add_argument("--iterations", type=int, default=5, help="that a group times (default: %(default)s)")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where to write the results (default: %(default)s)")
    given = parser.parse_args()
    sizes = range(1, given.workers + 1)
    groups = {"strong": [(size, STRONG) for size in sizes], "weak": [(size, WEAK * size) for size in sizes]}
    found: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for repeat in range(given.repeats):
        for size, samples in sorted({*groups["strong"], *groups["weak"]}):
            found.setdefault((size, samples), []).append(run(size, samples, given.iterations))
            print(f"repeat {repeat}:", found[size, samples][-1], flush=True)
    rows = []
    for name, members in groups.items():
        one = _median(found[members[0]])
        for size, samples in members:
            seconds, ideal = _median(found[size, samples]), size if name == "strong" else 1
            row = {"scaling": name, "workers": size, "samples": samples, "seconds": seconds}
            row |= {"each": [repeat["seconds"] for repeat in found[size, samples]], "efficiency": one / seconds / ideal}
            row |= {"bytes": found[size, samples][0]["bytes"], "model_bytes": model_bytes()}
            rows.append(row)
            print({key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()})
    facts = {"command": "python benchmarks/distributed.py", "machine": platform.processor(), "torch": torch.__version__}
    given.json.write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n")


def _median(rows: list[dict[str, Any]]) -> float:
    return statistics.median(row["seconds"] for row in rows)


if __name__ == "__main__":
    main()

"""Time of one optimiser step: ours against torch's and against a per-tensor Python transcription, in one process.

    python benchmarks/optimizers.py [--only NAME] [--json PATH] [--rounds N]

About one million float32 weights in 12 tensors, fixed gradients, one thread. The contestants take turns, round by
round; each figure is the median over rounds. ``ratio`` is how many times as fast as theirs ours is, ``floor_ms`` the
time to read and write the same memory once (``dual += grad``), below which no step can fall.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

import bregma

# A recurrent network on 700 channels and dense layers behind it, with their biases.
SHAPES = [(512, 700), (512,), (512, 512), (512,), (512, 512), (512,), (200, 512), (200,), (100, 100), (100,), (20, 100)]
SHAPES.append((20,))
RESULTS = Path(__file__).parent / "results" / "optimizers.json"

Step = Callable[[], object]


def parameters() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    params: list[Tensor] = [torch.nn.Parameter(torch.randn(shape, generator=generator) * 0.05) for shape in SHAPES]
    for p in params:
        p.grad = torch.randn(p.shape, generator=generator) * 1e-2
    return params


class Transcription:
    """AdaBreg as one writes it down from the paper: a Python loop, one new tensor per operation."""

    def __init__(self, params: list[Tensor], lr: float = 1e-3, lam: float = 0.05) -> None:
        self.params, self.lr, self.lam, self.t = params, lr, lam, 0
        self.v = [p.detach() + lam * p.detach().sign() for p in params]
        self.m = [torch.zeros_like(p) for p in params]
        self.s = [torch.zeros_like(p) for p in params]

    @torch.no_grad()
    def step(self) -> None:
        """One step; the papers' equations in their order."""
        self.t += 1
        for i, p in enumerate(self.params):
            g = p.grad
            assert g is not None
            self.m[i] = 0.9 * self.m[i] + 0.1 * g
            self.s[i] = 0.999 * self.s[i] + 0.001 * g**2
            m_hat = self.m[i] / (1 - 0.9**self.t)
            s_hat = self.s[i] / (1 - 0.999**self.t)
            self.v[i] = self.v[i] - self.lr * m_hat / (torch.sqrt(s_hat) + 1e-8)
            p.data = torch.sign(self.v[i]) * torch.clamp(torch.abs(self.v[i]) - self.lam, min=0)


def floor() -> Step:
    params = parameters()
    duals = [p.detach().clone() for p in params]
    grads = [p.grad for p in params]

    def touch() -> None:
        for dual, grad in zip(duals, grads, strict=True):
            assert grad is not None
            dual.add_(grad)

    return touch


WORKS: dict[str, tuple[str, str, Callable[[], Step], Callable[[], Step]]] = {
    "adabreg-adam-fused": (
        "AdaBreg l1",
        "torch.optim.Adam(fused=True)",
        lambda: bregma.AdaBreg(parameters()).step,
        lambda: torch.optim.Adam(parameters(), fused=True).step,
    ),
    "adabreg-adam-default": (
        "AdaBreg l1",
        "torch.optim.Adam()",
        lambda: bregma.AdaBreg(parameters()).step,
        lambda: torch.optim.Adam(parameters()).step,
    ),
    "adabreg-transcription": (
        "AdaBreg l1",
        "per-tensor Python transcription",
        lambda: bregma.AdaBreg(parameters()).step,
        lambda: Transcription(parameters()).step,
    ),
    "linbreg-sgd-fused": (
        "LinBreg l1, momentum 0.9",
        "torch.optim.SGD(fused=True), momentum 0.9",
        lambda: bregma.LinBreg(parameters(), lr=0.1, momentum=0.9).step,
        lambda: torch.optim.SGD(parameters(), lr=0.1, momentum=0.9, fused=True).step,
    ),
    "proxsgd-sgd-fused": (
        "ProxSGD l1, momentum 0.9",
        "torch.optim.SGD(fused=True), momentum 0.9",
        lambda: bregma.ProxSGD(parameters(), lr=0.1, momentum=0.9).step,
        lambda: torch.optim.SGD(parameters(), lr=0.1, momentum=0.9, fused=True).step,
    ),
}


def medians(steps: list[Step], rounds: int, warm_up: int = 5) -> list[float]:
    """Median milliseconds of each step; the steps take turns, so that a busy machine hits all alike."""
    times: list[list[float]] = [[] for _ in steps]
    for round_ in range(rounds + warm_up):
        for own, step in zip(times, steps, strict=True):
            begin = time.perf_counter()
            step()
            if round_ >= warm_up:
                own.append((time.perf_counter() - begin) * 1e3)
    return [statistics.median(own) for own in times]


def measure(name: str, rounds: int) -> dict[str, object]:
    work, against, ours, theirs = WORKS[name]
    ours_ms, theirs_ms, floor_ms = medians([ours(), theirs(), floor()], rounds)
    return {
        "work": work,
        "against": against,
        "ratio": round(theirs_ms / ours_ms, 3),
        "ours_ms": round(ours_ms, 4),
        "theirs_ms": round(theirs_ms, 4),
        "floor_ms": round(floor_ms, 4),
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "bregma": bregma.__version__},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(WORKS), help="one comparison instead of all")
    parser.add_argument("--json", type=Path, help=f"where to write the results (default, without --only: {RESULTS})")
    parser.add_argument("--rounds", type=int, default=200, help="timed steps of each contestant (default: 200)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = [measure(name, args.rounds) for name in ([args.only] if args.only else WORKS)]
    print(f"{sum(torch.Size(s).numel() for s in SHAPES)} weights in {len(SHAPES)} tensors, one thread, ms per step")
    for row in rows:
        print(
            f"{row['work']:26} {row['ours_ms']:8.3f}   {row['against']:42} {row['theirs_ms']:8.3f}   "
            f"ratio {row['ratio']:.2f}   floor {row['floor_ms']:.3f}"
        )
    path = args.json or (None if args.only else RESULTS)
    if path:
        path.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()

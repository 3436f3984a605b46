"""Time of one ADMM iteration: ours against Algorithm 2 of arXiv 2505.05527 as written, on the same recordings.

    python benchmarks/admm.py [--only NAME] [--json PATH] [--data FOLDER] [--rounds N]

``convolution`` is another comparison: the linear system of the spikes that a convolutional layer hears, see `systems`.
In all others, the paper's setting: T 150, 200 recordings of N-MNIST, 2312-512-512-10, float32, one thread. The other
contestant is the transcription that the tests use as their oracle (tests/reference/admm.py): plain torch, which forms
the inverse of the spikes' system for every layer and time step and the input's Gram matrix in every iteration. It gets
the same ridge as ours, since some pixels never fire; the authors' pseudo-inverse would take longer. The contestants
take turns; figures are medians. ``floor_ms`` is the time torch needs for the dense products that no rearrangement
avoids, each as one call: for two hidden layers the sums fed back, the spikes' system, the weights' right-hand side, the
drive, and half of each of two symmetric Gram matrices. A share above 100 % means that our products are faster than
torch's. ``ratio`` is theirs_ms / ours_ms. ``--only accuracy`` compares what solvers and gradient training
reach in the same time: see `benchmarks/admm_accuracy.py`. Rows of other works stay in the results.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from admm_accuracy import accuracy_rows
from torch import Tensor

import bregma
from bregma.admm import ADMM, Convolution, Settings
from bregma.admm.convolution import ConvolutionSystem
from bregma.admm.order import Order
from bregma.data import load, stratified_cut

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
RESULTS = Path(__file__).parent / "results" / "admm.json"
STEPS, SAMPLES, NEURONS, CLASSES = 150, 200, 512, 10
ROWS = STEPS * SAMPLES

#: Name: order of our iteration, numbers of hidden layers.
WORKS: dict[str, tuple[Order, int]] = {
    "random-2": ("random", 2),
    "paper-2": ("paper", 2),
    "random-1": ("random", 1),
    "random-3": ("random", 3),
}


def recordings(root: Path | None) -> tuple[Tensor, Tensor]:
    """The first 200 recordings of a stratified cut, (T, B, 2312), and one-hot labels."""
    train = load("nmnist", root=root, steps=STEPS).train
    _, rows = stratified_cut(train.labels.numpy(), SAMPLES / len(train), 0)
    frames, labels = train.__getitems__(rows.tolist())
    return frames.flatten(2), torch.eye(CLASSES)[labels]


def timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return (time.perf_counter() - begin) * 1e3


def floor(hidden: int) -> Callable[[], object]:
    """The dense products of an iteration with this number of hidden layers."""
    a, out = torch.rand(ROWS, NEURONS), torch.empty(ROWS, NEURONS)
    square, half = torch.rand(NEURONS, NEURONS), torch.rand(ROWS, NEURONS // 2)

    def work() -> None:
        for _ in range(3 * (hidden - 1)):  # feedback, the spikes' system, the drive of the layer behind
            torch.mm(a, square, out=out)
        for _ in range(hidden - 1):
            torch.mm(a.T, a)  # the weights' right-hand side
        for _ in range(hidden):
            torch.mm(half.T, a)  # half of the Gram matrix

    return work


def measure(name: str, x: Tensor, y: Tensor, rounds: int) -> dict[str, Any]:
    from reference.admm import from_solver  # type: ignore[import-not-found]

    order, hidden = WORKS[name]
    solver = ADMM(x, y, (NEURONS,) * hidden, Settings(order=order))
    paper = from_solver(solver.variables, x, y, ridge=solver.constants.ridge)
    products = floor(hidden)
    solver.step()  # compiles the kernels, makes the input's Gram matrix
    products()
    ours, theirs, least = [], [], []
    for _ in range(rounds):
        theirs.append(timed(lambda: paper.algorithm2(warming=True)))
        for _ in range(3):
            ours.append(timed(solver.step))
            least.append(timed(products))
    ours_ms, theirs_ms, floor_ms = map(statistics.median, (ours, theirs, least))
    return {
        "work": f"ADMM iteration, {order} order, 2312-{'512-' * hidden}10",
        "against": "Algorithm 2 line by line in torch, in the paper's order",
        "ratio": round(theirs_ms / ours_ms, 2),
        "ours_ms": round(ours_ms, 1),
        "theirs_ms": round(theirs_ms, 1),
        "floor_ms": round(floor_ms, 1),
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "bregma": bregma.__version__},
    }


def conjugate_gradients(system: ConvolutionSystem, right: Tensor, invert: Callable[[Tensor], Tensor]) -> Tensor:
    """Solutions for all rows to a part of 1e-8 of their right-hand sides; ``invert`` is the preconditioner."""
    a, residual = torch.zeros_like(right), right.clone()
    close = invert(residual)
    direction, size = close.clone(), (residual * close).sum(1, keepdim=True)
    while bool((residual.norm(dim=1) > 1e-8 * right.norm(dim=1)).any()):
        image = system.multiply(direction)
        step = size / (direction * image).sum(1, keepdim=True)
        a += step * direction
        residual -= step * image
        close = invert(residual)
        before, size = size, (residual * close).sum(1, keepdim=True)
        direction = close + size / before * direction
    return a


def fourier(
    weight: Tensor, layer: Convolution, shape: tuple[int, int, int], shift: float
) -> Callable[[Tensor], Tensor]:
    """The exact solution if frames had no edge but went on periodically."""
    channels, *sides = shape
    kernels = torch.fft.rfft2(weight.view(layer.channels, channels, layer.kernel, layer.kernel), s=sides)
    matrices = torch.einsum("oihw,ojhw->hwij", kernels.conj(), kernels) + shift * torch.eye(channels)
    inverse = torch.linalg.inv(matrices)

    def solve(rows: Tensor) -> Tensor:
        spectrum = torch.einsum("hwij,bjhw->bihw", inverse, torch.fft.rfft2(rows.view(-1, *shape)))
        return torch.fft.irfft2(spectrum, s=sides).flatten(1)

    return solve


def systems() -> dict[str, Any]:
    """Spikes that a layer of 8 kernels of 5 x 5 hears on frames of N-MNIST: 30000 rows are an iteration of 200 samples.

    Ours factorises the matrix once (``once_ms``) and multiplies each row by the inverse. CPU time, per row where not
    said otherwise; errors are those of the whole solution, relative.
    """
    shape, layer, shift = (2, 34, 34), Convolution(8, kernel=5), 1.1
    generator, correlation = torch.Generator().manual_seed(0), layer.on(shape)
    weight = torch.randn(correlation.weight_shape, generator=generator)
    weight *= 1.5 / weight.norm()  # the norm seen in training
    right = torch.rand(128, 2 * 34 * 34, generator=generator) - 0.3
    out = torch.empty_like(right)
    exact = ConvolutionSystem(weight.double(), 1.0, shift, correlation)
    periodic = fourier(weight.double(), layer, shape, shift)
    truth = exact.solve(right.double(), torch.empty_like(right, dtype=torch.float64))
    solved: dict[str, Tensor] = {}

    def cpu(name: str, work: Callable[[], Tensor]) -> float:
        begin = time.process_time()
        solved[name] = work()
        return (time.process_time() - begin) * 1e3

    once = cpu("once", lambda: ConvolutionSystem(weight, 1.0, shift, correlation).matrix)
    ours = ConvolutionSystem(weight, 1.0, shift, correlation)
    ours.solve(right, out)  # compiles the kernel
    ways: dict[str, Callable[[], Tensor]] = {
        "ours": lambda: ours.solve(right, out),
        "conjugate_gradients": lambda: conjugate_gradients(exact, right.double(), torch.clone),
        "fourier_preconditioned": lambda: conjugate_gradients(exact, right.double(), periodic),
        "fourier": lambda: periodic(right.double()),
    }
    times = {name: cpu(name, way) / len(right) for name, way in ways.items()}
    return {
        "work": "ADMM, system of the spikes before a convolution 2x34x34 -> 8, 5x5",
        "against": "conjugate gradients in float64",
        "ratio": round(times["conjugate_gradients"] / times["ours"], 2),
        "once_ms": round(once, 1),
        **{f"{name}_ms": round(value, 4) for name, value in times.items()},
        **{f"{name}_error": float(f"{float((solved[name] - truth).norm() / truth.norm()):.1e}") for name in ways},
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "bregma": bregma.__version__},
    }


def keep(rows: list[dict[str, Any]], path: Path) -> None:
    """Put rows among the results, in place of those of the same work."""
    old = json.loads(path.read_text()) if path.exists() else []
    made = {row["work"] for row in rows}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([*(row for row in old if row["work"] not in made), *rows], indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=[*WORKS, "accuracy", "convolution"], help="one comparison instead of all")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where to write the results (default: %(default)s)")
    parser.add_argument("--data", type=Path, help="folder with N-MNIST; default: as bregma.data.load")
    parser.add_argument("--rounds", type=int, default=3, help="timed iterations of theirs, three of ours per each")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.only in (None, "accuracy"):
        keep(accuracy_rows(args.data), args.json)
    if args.only in (None, "convolution"):
        keep([row := systems()], args.json)
        print(
            f"{row['work']}: ours {row['ours_ms']:.3f} ms per row, {row['once_ms']:.0f} ms once; conjugate gradients "
            f"{row['conjugate_gradients_ms']:.1f}, with Fourier {row['fourier_preconditioned_ms']:.1f}; "
            f"Fourier alone is off by {row['fourier_error']:.0%}",
            flush=True,
        )
    names = [name for name in WORKS if args.only in (None, name)]
    x, y = recordings(args.data) if names else (torch.empty(0), torch.empty(0))
    for name in names:
        keep([row := measure(name, x, y, args.rounds)], args.json)
        print(
            f"{row['work']:52} {row['ours_ms']:6.0f} ms   theirs {row['theirs_ms']:6.0f} ms   ratio {row['ratio']:.1f}"
            f"   floor {row['floor_ms']:.0f} ms, {row['floor_ms'] / row['ours_ms']:.0%} of ours",
            flush=True,
        )


if __name__ == "__main__":
    main()

"""ADMM with a convolutional layer on real N-MNIST: `python experiments/admm_convolution.py --data FOLDER`.

2x34x34 -> 8 kernels of 5 x 5, two pixels apart (1800 neurons) -> 10 classes, on 200 recordings of 30 time steps; the
paper's constants and random order. Accuracies are those of true forward passes, as is the control: random kernels that
fire at 15 % of the steps, with a readout solved in closed form on their true spikes.
Writes results/admm_convolution.json. One process; not resumable, since it takes a few minutes.
"""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from admm_paper import CLASSES, SAMPLES, Part, recordings

from bregma.admm import ADMM, Constants, Convolution, Settings, forward
from bregma.admm.forward import random_layer
from bregma.files import write_text
from bregma.runs.folder import environment

RESULTS = Path(__file__).parent / "results" / "admm_convolution.json"
SHAPE, STEPS, MEASURE_EVERY = (2, 34, 34), 30, 20
LAYER = Convolution(8, kernel=5, stride=2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with N-MNIST; default: as bregma.data.load")
    parser.add_argument("--iterations", type=int, default=100, help="default: %(default)s")
    parser.add_argument("--warming", type=int, default=30, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of recordings and of ADMM; default: 0")
    parser.add_argument("--json", type=Path, default=RESULTS, help="default: %(default)s")
    options = parser.parse_args()
    torch.set_num_threads(1)
    parts = dict(zip(("train", "unseen", "test"), recordings(options.data, options.seed, STEPS), strict=True))
    settings = Settings(Constants(ridge=1e-4), warming=options.warming)
    x, labels = parts["train"]
    solver = ADMM(x.float(), torch.eye(CLASSES)[labels], (LAYER,), settings, frame_shape=SHAPE, seed=options.seed)
    begin, curve = time.process_time(), []
    while solver.iteration < options.iterations:
        solver.step()
        if solver.iteration % MEASURE_EVERY == 0 or solver.iteration == options.iterations:
            own = {"iteration": solver.iteration, "cpu_seconds": round(time.process_time() - begin, 1)}
            curve.append(own | solver.measure() | accuracies(solver.weights, parts, settings.constants))
            print(curve[-1], flush=True)
    row = {
        "layer": asdict(LAYER),
        "frame_shape": SHAPE,
        "steps": STEPS,
        "samples": SAMPLES,
        "iterations": options.iterations,
        "seed": options.seed,
        **asdict(settings),
        "control": control(parts, settings.constants, options.seed),
        "curve": curve,
    }
    print(row["control"])
    command = f"--iterations {options.iterations} --warming {options.warming} --seed {options.seed}"
    document = {
        "command": f"python experiments/admm_convolution.py {command}",
        "environment": environment(),
        "row": row,
    }
    write_text(options.json, json.dumps(document, indent=1) + "\n")


def accuracies(weights: list[torch.Tensor], parts: dict[str, Part], constants: Constants) -> dict[str, Any]:
    """Shares of recordings whose largest score is their class's."""
    correlations = [LAYER.on(SHAPE)]
    return {
        f"{name}_accuracy": float((forward(x, weights, constants, correlations).argmax(1) == y).double().mean())
        for name, (x, y) in parts.items()
    }


def control(parts: dict[str, Part], constants: Constants, seed: int) -> dict[str, Any]:
    """Accuracies with random kernels and a readout by ridge regression on the traces of the true spikes."""
    x, labels = parts["train"]
    generator, correlation = torch.Generator().manual_seed(seed), LAYER.on(SHAPE)
    kernels, spikes = random_layer(x.float(), LAYER.channels, constants, generator, correlation=correlation)
    powers = constants.decay ** torch.arange(STEPS - 1, -1, -1, dtype=torch.float64)
    trace = torch.einsum("t,tbn->bn", powers, spikes.double())  # the readout's last membrane is W @ trace
    gram = trace @ trace.T
    ridge = 1e-2 * trace.square().mean() * trace.shape[0] * torch.eye(len(trace), dtype=torch.float64)
    readout = torch.linalg.solve(gram + ridge, torch.eye(CLASSES, dtype=torch.float64)[labels]).T @ trace
    return accuracies([kernels, readout.float()], parts, constants)


if __name__ == "__main__":
    main()

"""The consistent ADMM solver against gradient training: `BREGMA_DATA=data python experiments/admm_consistent.py run`.

`run --rows NAME,...` adds the rows of results/admm_consistent.jsonl that are not there yet, one per method and seed,
each with all settings, its curve and the CPU seconds; `table` prints what they say.

What is trained: networks of `experiments/contestants.py` on the small setting of `experiments/camera.py` (T 30, 578
inputs), simulated from MNIST. Real recordings exist of MNIST's first 1,000 training images, so these are left out of
the training, and the 1,100 real recordings, none of whose digits was seen, are a test of their own. While settings were
chosen, the last 4,000 training images were kept for validation; final runs train on them too: 59,000 images. Methods of
one row start from the same weights and take turns on one thread; the clock is that of their own CPU seconds, making of
batches included, measuring excluded. Accuracy is that of true forward passes. The rows are in
`experiments/consistent_rows.py`.
"""

import argparse
import json
import platform
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch
from camera import FRAME, PIXELS, Camera, Recordings, load_camera
from consistent_rows import METHODS, ROWS
from contestants import Architecture, Consistent, Contestant, Control, Gradient
from race import Batches, Runner, accuracy, race

import bregma
from bregma.admm.convolution import Convolution
from bregma.admm.layers import Layer, Recurrent
from bregma.data import default_root, load

RESULTS = Path(__file__).parent / "results" / "admm_consistent.jsonl"
KINDS = {"consistent": Consistent, "gradient": Gradient, "control": Control}
REAL = 1000  # first training images, of which real recordings exist
VALIDATION = 4000  # last training images, kept out while tuning
SCALING_SAMPLES = 400


def versions() -> dict[str, str]:
    return {"python": platform.python_version(), "torch": torch.__version__, "bregma": bregma.__version__}


def architecture(row: dict[str, Any], train: Recordings) -> Architecture:
    def layer(given: Any) -> Layer:
        if not isinstance(given, dict):
            return int(given)
        return Convolution(**given) if "channels" in given else Recurrent(**given)

    shape = FRAME if train.size == PIXELS else None
    classes = int(train.labels.max()) + 1
    return Architecture(tuple(map(layer, row["hidden"])), train.size, classes, shape)


def contestant(setting: dict[str, Any], network: Architecture, weights: list[torch.Tensor]) -> Contestant:
    options = {key: value for key, value in setting.items() if key not in ("kind", "batch", "shift")}
    made: Contestant = KINDS[setting["kind"]](network, weights, **options)
    return made


def parts(name: str, options: Any) -> tuple[Recordings, dict[str, Recordings], dict[str, Recordings]]:
    """What a row is trained on, measured on at the marks, and measured on at the end."""
    tuning, data = name.startswith("tune"), ROWS[name].get("data")
    if data:
        train, validation, test = speech(data, options.data)
        return train, {"validation": validation} if tuning else {"test": test}, {}
    camera = load_camera(options.cache, options.data)
    last = len(camera.train) - (VALIDATION if tuning else 0)
    train = camera.train.part(np.arange(REAL, last))
    if tuning:
        return train, {"validation": camera.train.part(np.arange(last, len(camera.train)))}, {}
    return train, {"test": camera.test}, {"real": real_recordings(camera)}


def speech(name: str, root: Path | None) -> list[Recordings]:
    """Spoken digits as cochlea spikes: 140 channels, 100 steps of 7 ms; the test part has other voices."""
    splits = load((root or default_root()) / name, steps=100, channels=140, window=0.7, binary=True)
    found = []
    for part in (splits.train, splits.validation, splits.test):
        frames, labels = part.__getitems__(list(range(len(part))))
        bits = np.packbits(frames.transpose(0, 1).flatten(1).numpy().astype(bool), axis=1)
        found.append(Recordings(bits, labels, len(frames), frames[0, 0].numel()))
    return found


def run_row(name: str, seed: int, options: Any, done: set[str]) -> list[dict[str, Any]]:
    """Race the methods of a row but those that are done; their results."""
    row = ROWS[name]
    methods = {
        method: {**METHODS[method.split()[0]], **other}
        for method, other in row["methods"].items()
        if method not in done
    }
    train, measured, at_the_end = parts(name, options)
    network = architecture(row, train)
    weights = network.start(train.frames(slice(0, SCALING_SAMPLES)), seed)
    runners = {}
    for method, setting in methods.items():
        warm = contestant(setting, network, weights)  # kernels compile off the clock
        warm.step(*next(Batches(train, setting["batch"], 0)), 0.0)
        batches = Batches(train, setting["batch"], seed, setting.get("shift", 0))
        runners[method] = Runner(contestant(setting, network, weights), batches, row["seconds"])
    race(runners, row["marks"], measured)
    shared = {"hidden": row["hidden"], "training_samples": len(train), "budget_seconds": row["seconds"]}
    shared |= {"command": f"python experiments/admm_consistent.py run --rows {name}", "versions": versions()}
    return [
        {
            **{"row": name, "method": method, "seed": seed, "setting": methods[method], **shared},
            **{"seconds": round(runner.seconds, 1), "steps": runner.steps, "curve": runner.curve},
            **{key: round(accuracy(runner.contestant, part), 5) for key, part in at_the_end.items()},
        }
        for method, runner in runners.items()
    ]


def real_recordings(camera: Camera) -> Recordings:
    """All 1,100."""
    both = camera.real_train, camera.real_test
    return Recordings(np.concatenate([part.bits for part in both]), torch.cat([part.labels for part in both]))


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def run(options: Any) -> None:
    """Add the rows that are not there yet."""
    for name, seed in ((name, seed) for name in options.rows.split(",") for seed in map(int, options.seeds.split(","))):
        there = {row["method"] for row in read(options.results) if (row["row"], row["seed"]) == (name, seed)}
        if there >= set(ROWS[name]["methods"]):
            continue
        results = run_row(name, seed, options, there)
        with options.results.open("a") as file:
            file.writelines(json.dumps(result) + "\n" for result in results)


def table(rows: list[dict[str, Any]]) -> None:
    """Mean and standard deviation over the seeds in per cent at each mark, as Markdown."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["row"], row["method"]), []).append(row)
    print("| row | method | seeds | CPU s: accuracy | real recordings |\n| --- | --- | --- | --- | --- |")
    for (name, method), of in groups.items():
        key = "validation" if name.startswith("tune") else "test"
        points = zip(*(row["curve"] for row in of), strict=True)
        curve = ", ".join(f"{point[0]['seconds']:.0f}: {spread([p[key] for p in point])}" for point in points)
        real = spread([row["real"] for row in of]) if "real" in of[0] else ""
        print(f"| {name} | {method} | {len(of)} | {curve} | {real} |")


def spread(values: list[float]) -> str:
    """Mean, and standard deviation of several."""
    wide = f" ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.2f}{wide}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--rows", default=",".join(ROWS), help="default: all")
    parser.add_argument("--seeds", default="0,1,2", help="default: %(default)s")
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"), help="of frames; default: %(default)s")
    parser.add_argument("--data", type=Path, help="folder with MNIST and N-MNIST; default: as bregma.data.load")
    parser.add_argument("--results", type=Path, default=RESULTS, help="default: %(default)s")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.what == "run":
        run(options)
    table(read(options.results))


if __name__ == "__main__":
    main()

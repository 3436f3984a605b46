"""The main job over several seeds and methods: `python experiments/digits.py` writes results/digits.json.

Every run is that of `bregma train --method METHOD --seed SEED`, or with `--density D` for ``METHOD@D``; the runs
themselves land in ``--out`` and are kept, so an interrupted study goes on where it stopped. Test accuracy is that of
the weights with the best validation accuracy, by a true forward pass on digits never trained on. The table printed at
the end is the README's.
"""

import argparse
import json
import statistics
from pathlib import Path

from bregma.data import load
from bregma.files import write_text
from bregma.runs.experiment import METHODS, recipe
from bregma.runs.folder import RunFolder, describe, environment
from bregma.runs.loop import train

COMPARED = ("adabreg", "adabreg@0.05", "linbreg", "proxsgd", "adam")
RESULTS = Path(__file__).parent / "results" / "digits.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--methods",
        default=",".join(COMPARED),
        help=f"of {', '.join(METHODS)}; default: %(default)s",
    )
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 to N-1; default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("runs/digits-study"), help="default: %(default)s")
    parser.add_argument("--json", type=Path, default=RESULTS, help="default: %(default)s")
    options = parser.parse_args()

    rows = [
        run(method, seed, options.out / f"{method}-{seed}")
        for method in options.methods.split(",")
        for seed in range(options.seeds)
    ]
    command = f"python experiments/digits.py --methods {options.methods} --seeds {options.seeds}"
    write_text(options.json, json.dumps({"command": command, "environment": environment(), "rows": rows}, indent=1))
    show(rows)


def run(method: str, seed: int, path: Path) -> dict[str, object]:
    """The summary of one run and all of its settings; trained unless it is there already."""
    name, _, density = method.partition("@")
    target = {"density": float(density)} if density else {}
    experiment = recipe("digits", method=name, seed=seed, **target)
    folder = RunFolder(path)
    summary = folder.summary()
    if summary is None:
        splits = load("digits", seed=seed)
        resume = (path / "config.toml").exists()
        if not resume:
            folder.create(describe(experiment, splits))
        summary = train(folder, splits, resume=resume)
        assert summary is not None
    if folder.config().experiment != experiment:
        raise ValueError(f"{path} holds a run with other settings; choose another --out")
    print(f"{method} seed {seed}: test {summary['test_accuracy']:.4f} density {summary['density']:.3f}", flush=True)
    return {**experiment.to_dict(), **summary, "method": method}


def show(rows: list[dict[str, object]]) -> None:
    """Mean and standard deviation over the seeds, a row per method, as Markdown."""
    print(
        "\n| method | test accuracy | density | spikes per neuron and step | seconds |\n| --- | --- | --- | --- | --- |"
    )
    for method in dict.fromkeys(row["method"] for row in rows):
        of = [row for row in rows if row["method"] == method]
        cells = (
            spread([100 * row["test_accuracy"] for row in of], "{:.1f}") + " %",
            spread([row["density"] for row in of], "{:.3f}"),
            spread([row["firing_rate"] for row in of], "{:.3f}"),
            f"{statistics.mean(row['seconds'] for row in of):.0f}",
        )
        print(f"| {method} | {' | '.join(cells)} |")


def spread(values: list[float], form: str) -> str:
    """Mean and standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{form.format(statistics.mean(values))} ± {form.format(deviation)}"


if __name__ == "__main__":
    main()

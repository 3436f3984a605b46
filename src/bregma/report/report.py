"""The page that a person looks at: one run, or several side by side, from the run folders alone."""

import shlex
from pathlib import Path
from typing import Any

from bregma.files import write_text
from bregma.report import page
from bregma.report.compare import comparison
from bregma.report.curves import percent
from bregma.report.figures import draw, save
from bregma.report.results import Results, as_text, flat_settings, read_results
from bregma.runs.experiment import Experiment, recipe
from bregma.runs.folder import Config, RunFolder

#: How the methods are written in prose.
METHOD_NAMES = {
    "adabreg": "AdaBreg",
    "linbreg": "LinBreg",
    "proxsgd": "ProxSGD",
    "adam": "Adam",
    "adamw": "AdamW",
    "admm": "ADMM",
    "gmp": "magnitude pruning",
    "gmp-metric": "metric-scored pruning",
    "rigl": "RigL",
    "set": "SET",
}

_HOW = ("learning", "solver", "sparsity", "sample")


def write_report(folders: list[RunFolder], out: Path | None = None) -> Path:
    """Write one HTML page that needs no other file.

    Args:
        folders: run folders, at least one; finished or not.
        out: the page to write. Default: ``report.html`` in the run folder of a single run, whose ``figures/`` are drawn
            anew too; ``report.html`` in the working directory for several runs.

    Returns:
        The path of the page.

    Raises:
        FileNotFoundError: a folder holds no run, one of its files or the folder of ``out`` is missing.
        ValueError: no folders, or a file of one is broken; the message names it.
    """
    if not folders:
        raise ValueError("folders must name at least one run, got none")
    results = [read_results(folder) for folder in folders]
    path = out or (folders[0].report if len(folders) == 1 else Path("report.html"))
    if path.is_dir():
        raise ValueError(f"out: {path} is a folder; name the page to write")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"out: {path.parent} is no folder")
    write_text(path, _single(results[0]) if len(folders) == 1 else comparison(results, path))
    return path


def repeat_command(experiment: Experiment) -> str:
    """The command line that runs an experiment again.

    Only what differs from the settings recommended for the data and the method is named.

    Example:
        >>> repeat_command(recipe("digits", lam=0.2, hidden=(128, 64), recurrent=True))
        'bregma train --data digits --method adabreg --lam 0.2 --hidden 128 64 --recurrent'
    """
    usual = recipe(experiment.data, experiment.method, experiment.admm.solver, density=experiment.density)
    words = ["bregma", "train", "--data", experiment.data, "--method", experiment.method]
    if experiment.admm.solver == "paper":
        words += ["--admm.solver", "paper"]
    if experiment.density:
        words += ["--density", str(experiment.density)]
    return shlex.join(words + option_words(experiment, usual))


def option_words(experiment: Experiment, usual: Experiment, leave_out: tuple[str, ...] = ()) -> list[str]:
    """The options of the command line for the settings that differ from the usual ones.

    Example:
        >>> option_words(recipe(epochs=5, recurrent=True), recipe())
        ['--epochs', '5', '--recurrent']
    """
    words = []
    settings, usual_settings = flat_settings(experiment), flat_settings(usual)
    for name, value in settings.items():
        if value == usual_settings.get(name, getattr(Experiment, name, None)) or name in leave_out:
            continue
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{flag[2:]}")
        else:
            words += [flag, *map(str, value if isinstance(value, list) else (value,))]
    return words


def _single(results: Results) -> str:
    """The page of one run; its figures are left in the run folder on the way."""
    drawings = draw(results)
    save(results.folder, drawings)
    config, experiment = results.config, results.config.experiment
    data = Path(experiment.data).name
    title = f"{METHOD_NAMES[experiment.method]} on {data}"
    return page.page(
        f"{title} · {results.folder.path.resolve().name} · bregma",
        [
            page.header(f"Run {results.folder.path.resolve().name}", title, _lede(results), _notes(results)),
            page.numbers(_numbers(results)) if results.rows else "",
            page.figures("How it learned, and what it does", [d for d in drawings if d.name in _HOW]),
            page.figures("How it is wired", [d for d in drawings if d.name not in _HOW]),
            _resume(results),
            page.section(
                "Repeat this run",
                page.code(repeat_command(experiment)),
                page.paragraph(_conditions(config)),
            ),
            page.section(
                "Settings",
                page.folded(
                    "All settings", {name: as_text(value) for name, value in flat_settings(experiment).items()}
                ),
                page.folded(
                    "Data and network",
                    {
                        "data": config.title,
                        "recordings": "simulated or synthesised" if config.synthetic else "measured",
                        "frame": " × ".join(map(str, config.frame_shape)),
                        "time steps": config.steps,
                        "classes": ", ".join(config.classes),
                        **{name: f"{w.shape[0]} × {w.shape[1]}" for name, w in results.weights.items()},
                    },
                ),
                page.folded("Versions", config.environment),
            ),
        ],
    )


def _lede(results: Results) -> str:
    """What was trained on what, in one sentence."""
    config, experiment = results.config, results.config.experiment
    recurrent = experiment.recurrent or experiment.network != "mlp"
    kind = f"{'recurrent ' if recurrent else ''}spiking network{'' if experiment.network == 'mlp' else ' with delays'}"
    sizes = " → ".join(
        [" × ".join(map(str, config.frame_shape)), *map(str, experiment.hidden), f"{len(config.classes)} classes"]
    )
    how = "" if experiment.method in ("adam", "adamw", "admm") else f" at λ = {experiment.lam:g}"
    if experiment.density:
        how = f" to a density of {experiment.density:g}"
    epochs = f"{results.done} {results.unit}{'s' if results.done != 1 else ''}"
    return (
        f"A {kind} ({sizes}, {config.steps} time steps) trained with {METHOD_NAMES[experiment.method]}{how} "
        f"for {epochs} on {config.title}."
    )


def _resume(results: Results) -> str:
    if results.summary:
        return ""
    command = shlex.join(["bregma", "train", "--resume", str(results.folder.path)])
    return page.section("Go on with this run", page.code(command))


def _notes(results: Results) -> list[str]:
    notes = []
    if results.summary is None:
        notes.append(
            f"Not finished: {results.done} of {results.planned} {results.unit}s are here, and there is no "
            "test result yet. The command below goes on with it."
        )
    if results.config.synthetic:
        notes.append("The recordings are simulated or synthesised, not measured with a sensor.")
    return notes


def _numbers(results: Results) -> list[tuple[str, str]]:
    """Value and meaning of each key figure; before the end those of the best epoch so far."""
    summary, best = results.summary, results.best
    if summary:
        accuracy = (percent(summary["test_accuracy"]), "test accuracy, on samples never used for training or choice")
    else:
        accuracy = (
            percent(best["validation_accuracy"]),
            f"validation accuracy so far ({results.unit} {best['epoch']})",
        )
    seconds = summary["seconds"] if summary else results.rows[-1]["seconds"]
    return [
        accuracy,
        (f"{(summary or best)['density']:.3f}", f"density: share of weights that are not zero{_target(results)}"),
        (f"{results.nonzero:,}", f"weights not zero, of {results.connections:,}"),
        (f"{results.firing_rate:.3f}", "spikes per hidden neuron and time step"),
        *_synops(summary or best),
        (duration(seconds), f"of training on {_threads(results.config.experiment)}"),
    ]


def _synops(measured: dict[str, Any]) -> list[tuple[str, str]]:
    """Synaptic operations; runs of version 0.1.0 did not count them."""
    said = "synaptic operations per sample: spikes times weights not zero behind them"
    return [(f"{measured['synops']:,.0f}", said)] if "synops" in measured else []


def _target(results: Results) -> str:
    experiment = results.config.experiment
    of = " of the neurons" if experiment.structure == "neurons" else ""
    return f" (target {experiment.density:g}{of})" if experiment.density else ""


def duration(seconds: float) -> str:
    r"""Seconds as people read them.

    Example:
        >>> duration(22.4), duration(190), duration(7300)
        ('22\xa0s', '3\xa0min\xa010\xa0s', '2\xa0h\xa001\xa0min')
    """
    whole = round(seconds)
    if whole < 120:
        text = f"{whole} s"
    elif whole < 7200:
        text = f"{whole // 60} min {whole % 60:02d} s"
    else:
        text = f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def _conditions(config: Config) -> str:
    environment = config.environment
    return (
        f"With bregma {environment.get('bregma', '?')}, torch {environment.get('torch', '?')} and "
        f"{_threads(config.experiment)} on the same platform the result is the same bit for bit; elsewhere it may "
        "differ by rounding. Settings that are not named are those recommended for data and method; all are below."
    )


def _threads(experiment: Experiment) -> str:
    return "1 thread" if experiment.threads == 1 else f"{experiment.threads} threads"

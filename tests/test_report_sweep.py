"""The page of a sweep says what its runs came to, finished or not."""

import json
import re
import shlex
import statistics

import pytest
import tyro
from run_folders import make_run
from test_report_page import Page, assert_sound

from bregma.cli.sweep import Sweep, usual_sweep
from bregma.report.sweep import sweep_command, sweep_table, write_sweep
from bregma.report.sweep_figures import draw_sweep
from bregma.runs.experiment import recipe
from bregma.runs.plan import Plan
from bregma.runs.sweep import SweepFolder

ACCURACY = {"adabreg": {0.5: 0.96, 0.1: 0.95}, "gmp": {0.5: 0.95, 0.1: 0.85}, "adam": {1.0: 0.97}}


def made(path, *, methods=("adabreg", "gmp", "adam"), seeds=2, runs=None, **own) -> SweepFolder:
    """A sweep whose seed k is k points better than the first; only the first ``runs`` have ended."""
    folder = SweepFolder(path)
    plan = Plan(recipe("digits", hidden=(8,), epochs=4), methods, (0.5, 0.1), seeds, **own)
    folder.create(plan)
    for number, (name, experiment) in enumerate(plan.runs(lambda point: None)):
        if runs is None or number < runs:
            density = experiment.density or 1.0
            accuracy = ACCURACY[experiment.method][density] + 0.01 * experiment.seed
            settings = {"method": experiment.method, "density": density, "accuracy": accuracy, "seed": experiment.seed}
            make_run(folder.path / name, **{**settings, "method": "adam"})
    return folder


def test_the_page_is_sound_and_tells_means_and_spread(tmp_path):
    folder = made(tmp_path / "sweep")
    path = write_sweep(folder)
    page = Page(path)
    assert_sound(page, path.read_text())
    spread = f"{100 * statistics.stdev([0.85, 0.86]):.1f}"
    assert f"magnitude pruning 95.5 ± {spread} 85.5 ± {spread}" in page.words
    assert f"dense (Adam) 97.5 ± {spread}" in page.words
    assert "Not finished" not in page.words
    assert "AdaBreg with 10 % of the connections 95.5 %" in page.words
    assert "bregma sweep --data digits --method adabreg,gmp,adam --density 0.5,0.1 --seeds 2 --epochs 4" in page.words
    assert len(page.named("figure")) == 3


def test_one_seed_has_no_spread(tmp_path):
    folder = made(tmp_path / "sweep", seeds=1)
    words = Page(write_sweep(folder)).words
    assert "classified rightly, of one seed; the best mean" in words
    assert (folder.path / "table.md").read_text().startswith("Test accuracy in per cent by density, of one seed.\n")


def test_the_files_hold_what_the_page_shows(tmp_path):
    folder = made(tmp_path / "sweep")
    write_sweep(folder)
    assert {path.name for path in (folder.path / "figures").iterdir()} == {
        "accuracy_density.svg", "activity_density.svg", "ahead.svg",
    }  # fmt: skip
    rows = [json.loads(line) for line in (folder.path / "results.jsonl").read_text().splitlines()]
    assert rows == folder.rows()
    assert len(rows) == 10
    table = (folder.path / "table.md").read_text()
    assert "| method | 1 | 0.5 | 0.1 |" in table
    assert "| AdaBreg |  | 96.5 ± 0.7 | 95.5 ± 0.7 |" in table


def test_the_curve_has_a_mean_for_each_density_and_the_dense_band(tmp_path):
    rows = made(tmp_path / "sweep").rows()
    curve, ahead, activity = draw_sweep(("adabreg", "gmp", "adam"), rows)
    assert "AdaBreg at 0.5: 0.965; AdaBreg at 0.1: 0.955; magnitude pruning at 0.5: 0.955" in curve.alt
    assert "dense (Adam) at 1: 0.975" in curve.alt
    assert "magnitude pruning at 0.1: 10;" in ahead.alt  # the same seeds: no spread
    assert "dense at 0.1: -2" in ahead.alt
    assert "AdaBreg at 0.5: 0.15" in activity.alt
    for name in ("AdaBreg", "magnitude pruning", "dense"):
        assert f">{name}<" in curve.svg


def test_error_bars_are_one_standard_deviation_each_way(tmp_path):
    def bar(deviation: float) -> float:
        rows = [
            {"method": "gmp", "density": density, "seed": seed, "test_accuracy": value, "firing_rate": 0.1}
            for density, values in {0.5: (0.9, 0.3), 0.1: (0.6 - deviation, 0.6 + deviation)}.items()
            for seed, value in enumerate(values)
        ]
        (curve, _) = draw_sweep(("gmp",), rows)
        bars = re.search(r'<g id="LineCollection_1">(.*?)</g>', curve.svg, re.S)[1]
        _, (top, bottom) = (
            re.search(r"M [\d.]+ ([\d.]+) *\n?L [\d.]+ ([\d.]+)", path).groups()
            for path in re.findall(r'<path d="(.*?)"', bars, re.S)
        )
        return abs(float(top) - float(bottom))

    assert bar(0.2) == pytest.approx(2 * bar(0.1), rel=1e-3)


def test_an_unfinished_sweep_says_how_to_go_on(tmp_path):
    folder = made(tmp_path / "sweep", runs=6)
    words = Page(write_sweep(folder)).words
    assert "Not finished: 6 of 10 runs are here" in words
    assert f"bregma sweep --resume {folder.path}" in words
    head, lines = sweep_table(folder.plan(), folder.rows())
    assert head == ["method", "1", "0.5", "0.1"]
    assert lines[0][2] == "96.0 (1)"
    assert lines[2][1] == "97.5 ± 0.7"


def test_a_sweep_before_its_first_run_has_a_page_without_figures(tmp_path):
    folder = made(tmp_path / "sweep", runs=0)
    page = Page(write_sweep(folder))
    assert page.named("figure") == []
    assert "0 of 10 runs are here" in page.words


def test_a_sweep_of_one_method_is_compared_with_none(tmp_path):
    folder = made(tmp_path / "sweep", methods=("adabreg",), seeds=1)
    page = Page(write_sweep(folder))
    assert len(page.named("figure")) == 2
    assert "95.0" in page.words
    assert "±" not in " ".join(sweep_table(folder.plan(), folder.rows())[1][0])


@pytest.mark.parametrize(("first", "parts"), [("adabreg", "neurons"), ("set", "connections")])
def test_a_density_of_neurons_is_none_of_connections(tmp_path, first, parts):
    folder = SweepFolder(tmp_path / "sweep")
    base = recipe("digits", hidden=(8,), epochs=4, density=0.5, structure="neurons")
    folder.create(plan := Plan(base, (first, "gmp"), (0.5,), seeds=1))
    for name, _ in plan.runs(lambda point: None):
        make_run(folder.path / name, method="adam", accuracy=0.9)
    assert f" with 50 % of the {parts} 90.0 %" in Page(write_sweep(folder)).words


@pytest.mark.parametrize(
    ("method", "densities", "said"),
    [
        ("adam", (), "dense (Adam), 1 seed of each"),
        ("set", (0.1,), "SET at 1 density, 1 seed of each"),
        ("set", (0.2, 0.1), "SET at 2 densities, 1 seed of each"),
    ],
)
def test_the_page_begins_with_what_was_run(tmp_path, method, densities, said):
    folder = SweepFolder(tmp_path / "sweep")
    folder.create(Plan(recipe("digits"), (method,), densities, seeds=1))
    assert said in Page(write_sweep(folder)).words


def test_learning_rates_that_were_chosen_are_named(tmp_path):
    folder = made(tmp_path / "sweep", methods=("gmp",), seeds=1, rates=(0.01, 0.02), runs=0)
    for density in (0.5, 0.1):
        for lr, accuracy in ((0.01, 0.8), (0.02, 0.7 + density / 2)):
            make_run(folder.path / f"tuning-gmp-{density}-lr{lr}", accuracy=accuracy)
    words = Page(write_sweep(folder)).words
    assert "Chosen of 0.01, 0.02 gmp-0.5 0.02 gmp-0.1 0.01" in words


def test_the_command_repeats_the_sweep():
    plan = Plan(recipe("mnist", recurrent=False), ("set",), (0.1,), seeds=1, rates=(0.01,))
    assert (
        sweep_command(plan) == "bregma sweep --data mnist --method set --density 0.1 --seeds 1 --lr 0.01 --no-recurrent"
    )


@pytest.mark.parametrize("epochs", [10, 30])
def test_the_command_names_what_a_sweep_would_do_otherwise(epochs):
    """A sweep of digits has 10 epochs where a run has 30."""
    plan = Plan(recipe("digits", epochs=epochs), ("set",), (0.1,), seeds=1)
    words = shlex.split(sweep_command(plan))[2:]
    assert ("--epochs" in words) == (epochs == 30)
    assert tyro.cli(Sweep, args=words, default=usual_sweep(words)).plan() == plan

"""Figures of runs of every kind: that they are drawn, say what the files say, and leave no trace in matplotlib."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import pytest
import torch
from run_folders import make_run

from bregma.report import activity, style
from bregma.report.figures import draw, write_figures
from bregma.report.results import read_results
from bregma.runs.admm_settings import ADMMSettings
from bregma.runs.experiment import recipe

ALWAYS = {"learning", "sparsity", "sample", "weights"}
IMAGE = ALWAYS | {"inputs", "receptive_fields"}

KINDS = {
    "event camera": (dict(shape=(2, 6, 5)), IMAGE),
    "grey image": (dict(shape=(7, 6), values="grey"), IMAGE),
    "grey image with channel": (dict(shape=(1, 7, 6), values="grey"), IMAGE),
    "three channels": (dict(shape=(3, 5, 5), values="counts"), IMAGE),
    "spike channels": (dict(shape=(140,), values="counts"), ALWAYS | {"inputs"}),
    "rows of an image": (dict(shape=(28,), values="grey", steps=28), ALWAYS | {"inputs"}),
    "one channel": (dict(shape=(1,), values="grey", steps=784), ALWAYS),
    "five recurrent layers": (dict(hidden=(9, 8, 7, 6, 5), recurrent=True), IMAGE),
    "many layers": (dict(hidden=(4,) * 9), IMAGE),
    "one epoch": (dict(epochs=1), IMAGE),
    "dense": (dict(method="adam"), IMAGE),
    "a solver": (dict(method="admm", hidden=(8, 7), recurrent=True), IMAGE | {"solver"}),
    "a solver measured once": (dict(method="admm", epochs=1), IMAGE | {"solver"}),
    "a sparse solver": (dict(method="admm", admm=ADMMSettings(readout="mean"), density=0.5), IMAGE | {"solver"}),
    "the paper's solver": (dict(method="admm", solver="paper", hidden=(8, 7)), IMAGE | {"solver"}),
    "the paper's solver measured once": (dict(method="admm", solver="paper", epochs=1), IMAGE | {"solver"}),
    "no connection at all": (dict(density=0.0), IMAGE),
    "two classes": (dict(classes=("no", "yes")), IMAGE),
    "one class": (dict(classes=("all",)), IMAGE),
    "many classes": (dict(classes=tuple(f"word {k}" for k in range(35))), IMAGE),
    "one time step": (dict(steps=1), IMAGE),
    "any script": (dict(classes=("零", "Ω≤\N{GRINNING FACE}", "$x_1^")), IMAGE),
}


def texts(path: Path) -> list[str]:
    """All text of an SVG file."""
    return [node.text or "" for node in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")]


def parameters() -> dict:
    """What the user has set; to look at the backend would choose one."""
    return {name: matplotlib.rcParams[name] for name in matplotlib.rcParams if name != "backend"}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_run_is_drawn(kind, tmp_path):
    arguments, expected = KINDS[kind]
    paths = write_figures(make_run(tmp_path / "run", **arguments))
    assert {path.stem for path in paths} == expected
    assert all(path.parent == tmp_path / "run" / "figures" for path in paths)
    for path in paths:
        root = ElementTree.parse(path).getroot()
        assert root.get("width") == f"{style.WIDTH * 72:g}pt"  # one column, whatever is in it
    assert sorted(paths[0].parent.iterdir()) == sorted(paths)  # nothing half-written is left


def test_what_the_curves_say(tmp_path):
    folder = make_run(tmp_path / "run", hidden=(8, 6), recurrent=True, accuracy=0.8125)
    learning, sparsity, *_ = write_figures(folder)
    assert {"accuracy", "validation  81.2\xa0%", "train  81.2\xa0%", "test  81.2\xa0%"} <= set(texts(learning))
    assert {"hidden 1", "hidden 2 recurrent", "readout", "all  0.300", "hidden 2  0.2"} <= set(texts(sparsity))


def test_what_the_consistent_solver_says(tmp_path):
    paths = write_figures(make_run(tmp_path / "run", method="admm"))
    said = texts(next(path for path in paths if path.stem == "solver"))
    for text in ("objective", "loss  0.5", "step, as a share of the norm of the weights", "step  0.01", "iteration"):
        assert text in said


def test_what_the_papers_solver_says(tmp_path):
    paths = write_figures(make_run(tmp_path / "run", method="admm", solver="paper", hidden=(8, 7)))
    said = texts(next(path for path in paths if path.stem == "solver"))
    for text in ("lagrangian  750", "loss  0.5", "primal  0.025", "membrane 3  10", "spike 2  50", "iteration"):
        assert text in said


@pytest.mark.parametrize(
    ("figures", "message"),
    [
        (None, "solver must hold the figures of line 1, got None"),
        ({"loss": 1.0}, "solver must hold the figures of line 1"),
        ({"primal": "small"}, "solver primal must be a finite number, got 'small'"),
        ({"spike_residuals": [1.0, 2.0]}, r"solver spike_residuals must hold 1 numbers, got \[1.0, 2.0\]"),
    ],
)
def test_broken_figures_of_a_solver_are_named(figures, message, tmp_path):
    folder = make_run(tmp_path / "run", method="admm", solver="paper")
    rows = folder.metrics()
    if figures and "loss" not in figures:
        figures = rows[1]["solver"] | figures
    rows[1]["solver"] = figures
    folder.write_metrics(rows)
    with pytest.raises(ValueError, match=f"metrics.jsonl: line 2: {message}"):
        write_figures(folder)


def test_what_the_sample_says(tmp_path):
    write_figures(make_run(tmp_path / "run"))
    words = texts(tmp_path / "run" / "figures" / "sample.svg")
    assert {"ON", "OFF", "input, 60 pixels", "hidden 1, 8 neurons", "vote for “right”", "right"} <= set(words)


@pytest.mark.parametrize(
    ("settings", "score", "words"),
    [
        ({}, lambda x: x.mean(0), "on average"),
        ({"data": "mnist", "method": "admm"}, lambda x: x[-1], "at the last step"),
        ({"network": "delrec_shd", "hidden": (8, 8)}, lambda x: x.softmax(-1).sum(0), "after a softmax"),
        ({"network": "delrec_psmnist", "hidden": (8, 8, 8)}, lambda x: x[-1], "at the last step"),
    ],
)
def test_the_rival_is_the_class_that_the_network_nearly_chose(settings, score, words):
    scores = 3 * torch.randn(9, 5)
    decisive, wins = activity._decisive(recipe(**settings), scores.numpy())
    assert words in wins
    assert decisive.argsort().tolist() == score(scores).argsort().tolist()


def test_a_rightly_read_sample_is_preferred(tmp_path):
    results = read_results(make_run(tmp_path / "run"))
    assert results.sample.label == results.sample.prediction == 2


def test_large_matrices_stay_small_pictures(tmp_path):
    write_figures(make_run(tmp_path / "run", shape=(2, 34, 34), hidden=(700,), recurrent=True, density=0.5))
    assert (tmp_path / "run" / "figures" / "weights.svg").stat().st_size < 600_000
    assert "hidden 1, 300 of 700 neurons" in texts(tmp_path / "run" / "figures" / "sample.svg")


def test_inputs_that_are_cut_off_are_counted(tmp_path):
    folder = make_run(tmp_path / "run", density=1.0)
    tensors = folder.tensors("best")
    tensors["hidden.0.linear.weight"][:, [3, 40, 41]] = 0
    folder.write_tensors("best", tensors)
    (inputs,) = [drawing for drawing in draw(read_results(folder)) if drawing.name == "inputs"]
    assert "cut off 3 of 60 pixels" in inputs.caption
    assert "0 to 8" in inputs.alt


def test_an_unfinished_run_has_what_there_is(tmp_path):
    names = {path.stem for path in write_figures(make_run(tmp_path / "run", finished=False))}
    assert names == IMAGE - {"sample"}


def test_before_the_first_epoch_there_is_nothing(tmp_path):
    assert write_figures(make_run(tmp_path / "run", epochs=0, finished=False)) == []
    assert not (tmp_path / "run" / "figures").exists()


def test_the_same_run_gives_the_same_files_whatever_the_user_set(tmp_path):
    folder = make_run(tmp_path / "run")
    first = [path.read_bytes() for path in write_figures(folder)]
    odd = {"text.usetex": True, "lines.linewidth": 9, "font.size": 30, "axes.grid": True, "svg.fonttype": "path"}
    with matplotlib.rc_context(odd):
        before = parameters()
        assert [path.read_bytes() for path in write_figures(folder)] == first
        assert parameters() == before


def test_pyplot_is_never_touched(tmp_path):
    folder = make_run(tmp_path / "run")
    script = (
        "import sys; from bregma.runs.folder import RunFolder; from bregma.report.figures import write_figures;"
        "write_figures(RunFolder(sys.argv[1])); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script, folder.path], check=True)

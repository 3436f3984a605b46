"""Figures of runs of every kind: that they are drawn, say what the files say, and leave no trace in matplotlib."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from run_folders import make_run

from bregma.report import activity, style, wiring
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


def spoil(folder, name, content):
    (folder.path / name).write_bytes(content)


def without(folder, file, key):
    folder.write_tensors(file, {name: t for name, t in folder.tensors(file).items() if name != key})


def changed(folder, file, key, change):
    tensors = folder.tensors(file)
    folder.write_tensors(file, tensors | {key: change(tensors[key])})


def last_row(folder, **values):
    rows = folder.metrics()
    folder.write_metrics([*rows[:-1], rows[-1] | values])


def respelled(folder, old, new):
    text = (folder.path / "config.toml").read_text()
    assert old in text
    (folder.path / "config.toml").write_text(text.replace(old, new))


BROKEN = {
    "metrics torn": (lambda f: spoil(f, "metrics.jsonl", b'{"epoch": 1, "tra'), "metrics.jsonl: line 1: not readable"),
    "metrics not text": (lambda f: spoil(f, "metrics.jsonl", b"\xff\xfe\x00"), "metrics.jsonl: line 1: not readable"),
    "metrics of something else": (
        lambda f: spoil(f, "metrics.jsonl", b'{"a": 1}\n'),
        "line 1: epoch must be a finite number",
    ),
    "metrics a list": (lambda f: spoil(f, "metrics.jsonl", b"[1]\n"), "metrics.jsonl: line 1: expected an object"),
    "summary torn": (lambda f: spoil(f, "summary.json", b"{"), "summary.json: not readable JSON"),
    "summary empty": (lambda f: spoil(f, "summary.json", b"{}"), "summary.json: test_accuracy must be a finite number"),
    "weights torn": (lambda f: spoil(f, "best.safetensors", b"abc"), "best.safetensors: not a readable"),
    "a matrix missing": (lambda f: without(f, "best", "readout.linear.weight"), "best.safetensors: the weight matrix"),
    "seconds that are no number": (lambda f: last_row(f, seconds=float("nan")), "line 4: seconds must be a finite"),
    "epoch that is no number": (lambda f: last_row(f, epoch=float("inf")), "line 4: epoch must be a finite number"),
    "half an epoch": (lambda f: last_row(f, epoch=3.5), "line 4: epoch must be a whole number, got 3.5"),
    "a number beyond all floats": (lambda f: last_row(f, density=10**400), "line 4: density must be a finite number"),
    "synops of something else": (lambda f: last_row(f, synops=[]), "line 4: synops must be a finite number"),
    "JSON of many brackets": (lambda f: spoil(f, "summary.json", b"[" * 100_000), "summary.json: not readable JSON"),
    "weights of another network": (
        lambda f: changed(f, "best", "hidden.0.linear.weight", lambda w: w[:-1]),
        r"best.safetensors: hidden.0.linear.weight has the shape \(7, 60\), config.toml makes it \(8, 60\)",
    ),
    "weights that are no numbers": (
        lambda f: changed(f, "best", "readout.linear.weight", lambda w: w * float("nan")),
        "best.safetensors: readout.linear.weight must be finite",
    ),
    "a sample that is no number": (
        lambda f: changed(f, "sample", "scores", lambda scores: scores / 0),
        "sample.safetensors: 'scores' must be finite",
    ),
    "a config of sizes beyond all tensors": (
        lambda f: respelled(f, "hidden = [8]", f"hidden = [{10**30}]"),
        "config.toml: hidden or frame_shape is larger than a tensor",
    ),
    "a config with a table twice": (
        lambda f: respelled(f, "[data]", "[network]\nsteps = 3\n[data]"),
        "config.toml: not a readable TOML file",
    ),
    "a config with an odd frame": (
        lambda f: respelled(f, "frame_shape = [2, 6, 5]", 'frame_shape = ["wide"]'),
        "config.toml: frame_shape must be sizes >= 1, got",
    ),
    "a config with odd versions": (
        lambda f: respelled(f, "[environment]", "[environment]\nodd = 3"),
        "config.toml: environment must be names and texts",
    ),
    "sample torn": (lambda f: spoil(f, "sample.safetensors", b""), "sample.safetensors: not a readable"),
    "sample without scores": (lambda f: without(f, "sample", "scores"), "sample.safetensors: 'scores' is missing"),
    "sample without spikes": (lambda f: without(f, "sample", "spikes/hidden.0.neurons"), "spikes/hidden.0.neurons"),
    "sample without input": (lambda f: without(f, "sample", "input"), "sample.safetensors: 'input' is missing"),
    "config of the future": (lambda f: spoil(f, "config.toml", b"format = 99"), "config.toml: run format 99"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_file_is_named(fault, tmp_path):
    folder = make_run(tmp_path / "run")
    damage, message = BROKEN[fault]
    damage(folder)
    with pytest.raises(ValueError, match=message.replace("/", r"[/\\]")) as error:
        write_figures(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["config.toml", "metrics.jsonl", "best.safetensors", "sample.safetensors"])
def test_a_missing_file_is_named(name, tmp_path):
    folder = make_run(tmp_path / "run")
    (folder.path / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        write_figures(folder)


def test_labels_beyond_the_classes_are_refused(tmp_path):
    folder = make_run(tmp_path / "run")
    tensors = folder.tensors("sample")
    folder.write_tensors("sample", tensors | {"label": torch.tensor([0, 7])})
    with pytest.raises(ValueError, match="labels beyond the classes"):
        write_figures(folder)
    folder.write_tensors("sample", tensors | {"prediction": torch.tensor([0, 7])})
    with pytest.raises(ValueError, match="labels beyond the classes"):
        write_figures(folder)


def test_a_full_disk_keeps_the_old_figures(tmp_path, monkeypatch):
    folder = make_run(tmp_path / "run")
    old = {path: path.read_bytes() for path in write_figures(folder)}
    make_more = folder.metrics()
    folder.write_metrics([row | {"train_loss": 9.0} for row in make_more])

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space left"):
        write_figures(folder)
    assert {path: path.read_bytes() for path in folder.figures.iterdir()} == old


@settings(max_examples=50, deadline=None)
@given(places=st.lists(st.floats(0, 1), min_size=1, max_size=12), gap=st.floats(0.001, 0.3))
def test_labels_are_spread(places, gap):
    moved = style.spread(sorted(places), gap)
    assert all(b - a >= gap - 1e-9 for a, b in pairwise(moved))
    assert max(moved) <= 1 + 1e-9
    if gap * (len(places) - 1) <= 1:
        assert min(moved) >= -1e-9
    if all(b - a >= gap for a, b in pairwise(sorted(places))):
        assert moved == pytest.approx(sorted(places))  # what is apart already stays


@settings(max_examples=50, deadline=None)
@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 40),
    tall=st.integers(1, 7),
    wide=st.integers(1, 7),
    seed=st.integers(0, 99),
)
def test_block_means(rows, columns, tall, wide, seed):
    mask = np.random.default_rng(seed).random((rows, columns)) < 0.4
    means = wiring._block_mean(mask, [tall, wide])
    for k in range(means.shape[0]):
        for j in range(means.shape[1]):
            block = mask[k * tall : (k + 1) * tall, j * wide : (j + 1) * wide]
            assert means[k, j] == pytest.approx(block.mean())


def test_a_small_matrix_is_shown_entry_by_entry():
    weight = np.array([[0.0, 2.0, -0.1], [0.0, 0.0, 5.0]])
    image = wiring._pattern(weight)
    assert image.shape == (2, 3, 4)
    np.testing.assert_array_equal(image[..., 3] == 1, weight != 0)
    np.testing.assert_allclose(image[0, 1, :3], matplotlib.colors.to_rgb(style.VERMILION))
    np.testing.assert_allclose(image[0, 2, :3], matplotlib.colors.to_rgb(style.BLUE))


def test_neurons_are_ordered_alike_in_every_matrix():
    weights = {
        "hidden.0.linear.weight": np.array([[0, 1.0], [1.0, 1.0], [0, 0]]),
        "hidden.0.neurons.recurrent.weight": np.eye(3),
        "readout.linear.weight": np.array([[0, 0, 0], [1.0, 1.0, 1.0]]),
    }
    orders = wiring._orders(weights)
    assert [list(o) for o in orders["hidden.0.linear.weight"]] == [[1, 0, 2], [0, 1]]
    assert [list(o) for o in orders["hidden.0.neurons.recurrent.weight"]] == [[1, 0, 2], [1, 0, 2]]
    assert [list(o) for o in orders["readout.linear.weight"]] == [[0, 1], [1, 0, 2]]  # classes keep their places


def test_mosaic_puts_every_tile_in_its_place():
    tiles = np.arange(3)[:, None, None, None] + np.ones((3, 2, 2, 4))
    canvas = activity.mosaic(tiles, 2)
    assert canvas.shape == (5, 5, 4)
    assert canvas[0, 0, 0] == 1
    assert canvas[1, 4, 0] == 2
    assert canvas[3, 1, 0] == 3
    assert not canvas[2].any()
    assert not canvas[3:, 3:].any()


def test_files_are_read_without_running_code(tmp_path):
    """The tensors are safetensors: a pickle in their place is refused, not loaded."""
    folder = make_run(tmp_path / "run")
    torch.save({"readout.linear.weight": torch.zeros(3, 8)}, folder.path / "best.safetensors")
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        write_figures(folder)
    assert safetensors.torch.load_file(folder.path / "sample.safetensors")

"""The report page: valid and self-contained, says what the files say, and lets nothing from outside become markup."""

import json
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path

import pytest
from run_folders import make_run

from bregma.cli import main
from bregma.cli.train import Train
from bregma.report import style
from bregma.report.report import duration, repeat_command, write_report
from bregma.runs.admm_settings import ADMMSettings
from bregma.runs.experiment import Experiment, recipe
from bregma.runs.folder import RunFolder

EVIL = '<script>alert("1")</script>&amp;\'><img src=x onerror=alert(2)> id="x" url(#y)'
VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; complains of tags that are not closed in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), f"{tag} has an attribute twice"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def words(self) -> str:
        """All text, every kind of space being one."""
        return " ".join(" ".join(self.text).split())


def assert_sound(page: Page, source: str) -> None:
    """Nothing from outside, nothing that runs, every id once, every reference to something that is there."""
    assert source.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert page.named("title")
    assert page.named("meta")[0] == {"charset": "utf-8"}
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "img", "iframe", "object", "embed", "base"})
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), f"{tag} {name}"
            if name in ("href", "xlink:href", "src"):
                assert value.startswith("#") or value.startswith("data:image/png;base64,") or tag == "a", value[:40]
                assert not value.startswith("#") or value[1:] in ids
            for target in re.findall(r"url\(#([^)]*)\)", value or ""):
                assert name != "clip-path" or target in ids
    css = source[source.index("<style>") : source.index("</style>")]
    assert "url(" not in css
    assert "@import" not in css
    for drawing in page.named("svg"):
        assert drawing["role"] == "img"
        assert len(drawing["aria-label"]) > 20


def read(path: Path) -> Page:
    page = Page(path)
    assert_sound(page, path.read_text(encoding="utf-8"))
    return page


def test_one_run(tmp_path):
    folder = make_run(tmp_path / "first run", hidden=(8, 4), recurrent=True, accuracy=0.9375)
    path = write_report([folder])
    assert path == folder.report
    assert {file.name for file in folder.figures.iterdir()} == {
        "learning.svg", "sparsity.svg", "sample.svg", "weights.svg", "inputs.svg", "receptive_fields.svg",
    }  # fmt: skip
    page = read(path)
    assert len(page.named("figure")) == len(page.named("figcaption")) == 6
    assert (
        "A recurrent spiking network (2 × 6 × 5 → 8 → 4 → 3 classes, 7 time steps) trained with AdaBreg" in page.words
    )
    assert "on made-up frames." in page.words
    assert "simulated or synthesised, not measured" in page.words
    assert "93.8\N{NO-BREAK SPACE}%" in page.text
    weights = {name: w for name, w in folder.tensors("best").items() if name.endswith("weight")}
    nonzero, total = sum(int(w.count_nonzero()) for w in weights.values()), sum(w.numel() for w in weights.values())
    assert f"{nonzero:,}" in page.text
    assert f"weights not zero, of {total:,}" in page.text
    assert "0.150" in page.text
    assert "bregma train --data digits --method adabreg --epochs 4 --hidden 8 4 --recurrent" in page.text
    config = folder.config()
    for value in (*config.environment.values(), *config.classes, *config.experiment.to_dict()):
        assert str(value) in page.words


def test_out_is_taken_for_a_single_run_too(tmp_path):
    folder = make_run(tmp_path / "run")
    assert write_report([folder], tmp_path / "page.html") == tmp_path / "page.html"
    assert not folder.report.exists()


def test_names_from_outside_stay_text(tmp_path):
    evil_path = tmp_path / 'run <b> "&"'
    folder = make_run(evil_path, classes=(EVIL, "plain", "</svg><b>"), title=f"data {EVIL}", data=f"./{EVIL}.h5")
    config = (folder.path / "config.toml").read_text()
    (folder.path / "config.toml").write_text(config.replace("[environment]", '[environment]\n"<i>" = "<u>"'))
    page = read(write_report([folder]))
    names = {tag for tag, _ in page.tags}
    assert names.isdisjoint({"b", "i", "u", "script", "img"})
    assert EVIL in " ".join(page.text)
    assert "“</svg><b>”" in page.words
    read(write_report([folder, make_run(tmp_path / "other", title="<b>")], tmp_path / "both.html"))


def test_an_unfinished_run_says_so_and_how_to_go_on(tmp_path):
    folder = make_run(tmp_path / "my run", epochs=2, finished=False)
    page = read(write_report([folder]))
    assert "Not finished: 2 of 5 epochs" in page.words
    assert f"bregma train --resume {shlex.quote(str(folder.path))}" in page.text
    assert "validation accuracy so far (epoch 2)" in page.text
    assert "test accuracy" not in page.words
    assert len(page.named("figure")) == 5


def test_a_run_before_its_first_epoch(tmp_path):
    page = read(write_report([make_run(tmp_path / "run", epochs=0, finished=False)]))
    assert "Not finished: 0 of 3 epochs" in page.words
    assert not page.named("figure")


def test_a_run_of_admm_counts_iterations(tmp_path):
    page = read(write_report([make_run(tmp_path / "run", method="admm")]))
    assert "ADMM on digits" in page.words
    assert "trained with ADMM for 4 iterations on" in page.words
    assert "admm.rule" in page.words
    assert "admm.rho" not in page.words  # the paper's
    assert "λ" not in page.words
    folder = make_run(tmp_path / "cut", method="admm", finished=False)
    assert "Not finished: 4 of 7 iterations are here" in read(write_report([folder])).words


def test_admm_beside_a_gradient_method(tmp_path):
    folders = [make_run(tmp_path / "one", method="admm", finished=False), make_run(tmp_path / "two")]
    words = read(write_report(folders, tmp_path / "page.html")).words
    assert "iteration 4 of 7" in words
    assert "iteration or epoch" in words
    table, _, shared = words.partition("What the runs share")
    assert "admm.rule" not in table  # not a difference: the other method has none
    assert "admm.rule" in shared


def test_curves_of_runs_of_other_lengths_are_seen_whole(tmp_path, monkeypatch):
    axes = []
    whole = style.epochs_axis
    monkeypatch.setattr(style, "epochs_axis", lambda own, epochs: (whole(own, epochs), axes.append(own)))
    runs = [make_run(tmp_path / "a", epochs=4), make_run(tmp_path / "b", epochs=4, method="admm")]
    runs[1].write_metrics([{**row, "epoch": 10 * row["epoch"]} for row in runs[1].metrics()])
    write_report(runs, tmp_path / "both.html")
    for own in axes[-2:]:
        left, right = own.get_xlim()
        assert left <= 1
        assert right >= 40


def test_measured_data_are_not_called_simulated(tmp_path):
    folder = make_run(tmp_path / "run")
    file = folder.path / "config.toml"
    file.write_text(file.read_text().replace("synthetic = true", "synthetic = false"))
    assert "simulated" not in read(write_report([folder])).words


def test_several_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = [
        make_run(tmp_path / "runs" / "a b", lam=0.1, accuracy=0.5, density=0.25),
        make_run(tmp_path / "runs" / "c", lam=0.2, accuracy=0.75, density=0.125),
        make_run(tmp_path / "runs" / "d", lam=0.2, accuracy=0.875, density=0.25, seed=1),
        make_run(tmp_path / "runs" / "e", lam=0.4, finished=False, epochs=1),
        make_run(tmp_path / "runs" / "f", lam=0.5, finished=False, epochs=0),
    ]
    write_report(folders[:1])
    path = write_report(folders)
    assert path.resolve() == tmp_path / "report.html"
    page = read(path)
    assert [attributes["href"] for attributes in page.named("a")] == ["runs/a%20b/report.html"]
    assert len(page.named("figure")) == 3
    heads = page.words.split(" made-up frames. ")[1]
    figures = "test accuracy density validation accuracy weights not zero firing rate synops seconds"
    assert f"{figures} lam epochs seed" in heads
    assert "1,234" in page.words
    assert "Not finished, without a test result: run 4, 5." in page.words
    assert "2, 3 2 81.2 % ± 8.8 % 0.188 ± 0.088" in page.words
    assert "epoch 1 of 4" in page.text


def test_runs_on_different_data_are_not_compared_in_silence(tmp_path):
    folders = [make_run(tmp_path / "a"), make_run(tmp_path / "b", title="something else")]
    assert "different data" in read(write_report(folders, tmp_path / "page.html")).words


def test_folders_of_the_same_name_are_told_apart(tmp_path):
    folders = [make_run(tmp_path / parent / "run") for parent in ("a", "b")]
    page = read(write_report(folders, tmp_path / "page.html"))
    assert {str(folder.path) for folder in folders} <= set(page.text)


def test_many_runs_take_their_colour_from_the_method(tmp_path):
    methods = ["adam", "adabreg"] * 4
    folders = [make_run(tmp_path / str(k), method=method) for k, method in enumerate(methods)]
    page = read(write_report(folders, tmp_path / "page.html"))
    colors = [attributes["style"] for attributes in page.named("span")]
    assert len(set(colors)) == 2
    assert colors[::2] == colors[:1] * 4


@pytest.mark.parametrize(
    "experiment",
    [
        recipe("digits"),
        recipe("digits", "linbreg", lam=0.05),
        recipe("digits", "proxsgd"),
        recipe(
            "digits",
            method="adam",
            lr=1e-05,
            weight_decay=0.25,
            hidden=(12, 7),
            recurrent=True,
            seed=3,
            schedule="cosine",
        ),
        recipe("shd", "adamw", network="delrec_shd", steps=20, delay_lr=0.5, rounding="training"),
        recipe("mnist", "adabreg", density=0.1, weight_decay=1e-4, structure="2:4"),
        recipe("digits", "admm"),
        recipe("digits", "admm", density=0.1, recurrent=True, admm=ADMMSettings(rule="flips", batch_size=50, step=0.1)),
        recipe("digits", "admm", "paper"),
        recipe("mnist", "admm", admm=ADMMSettings("paper", 5, order="red-black", sigma=0.5), decay=0.8, seed=2),
        recipe("mnist", recurrent=False, clip=0.5, penalty="elastic_net", init="anchored"),
        recipe("./some where/speech 'x'.h5", epochs=2, batch_size=7, decay=0.5, steps=11, gain=0.125),
    ],
)
def test_the_command_repeats_the_experiment(experiment: Experiment, monkeypatch):
    """The command line, read by the command line's own parser, gives the same experiment."""
    seen = []
    monkeypatch.setattr(Train, "__call__", lambda command: seen.append(command.experiment()) or 0)
    name, *words = shlex.split(repeat_command(experiment))
    assert name == "bregma"
    with pytest.raises(SystemExit):
        main(words)
    assert seen == [experiment]


def test_the_same_run_twice_is_no_second_seed(tmp_path):
    runs = [make_run(tmp_path / name, seed=seed) for name, seed in (("a", 0), ("again", 0), ("b", 1))]
    assert "differ by their seed alone" not in Page(write_report(runs[:2], tmp_path / "page.html")).words
    assert "1, 3 2 90.0 % ± 0.0 %" in Page(write_report(runs, tmp_path / "page.html")).words


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match="at least one run"):
        write_report([])
    with pytest.raises(FileNotFoundError, match="holds no run"):
        write_report([RunFolder(tmp_path)])
    with pytest.raises(FileNotFoundError, match=r"out: .*nowhere"):
        write_report([make_run(tmp_path / "run")], tmp_path / "nowhere" / "page.html")


def test_one_broken_run_among_several_is_named(tmp_path):
    folders = [make_run(tmp_path / "good"), make_run(tmp_path / "bad")]
    (folders[1].path / "summary.json").write_text(json.dumps([1]))
    with pytest.raises(ValueError, match=re.escape(str(folders[1].path / "summary.json"))):
        write_report(folders, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (119, "119 s"), (120, "2 min 00 s"), (7199.7, "2 h 00 min")]
)
def test_duration(seconds, text):
    assert duration(seconds).replace("\N{NO-BREAK SPACE}", " ") == text

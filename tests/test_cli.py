"""The command line as a person uses it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bregma.cli import main, train
from bregma.runs.folder import RunFolder

PAPER = ["--method", "admm", "--admm.solver", "paper"]
MNIST = Path(__file__).parent / "fixtures" / "mnist"
QUICK = ["--epochs", "1", "--hidden", "16", "--steps", "5"]


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(words))
    return end.value.code or 0


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "quick"
    assert run("train", *QUICK, "--out", str(path)) == 0
    return path


@pytest.mark.parametrize(
    "words", [["--help"], ["train", "--help"], ["evaluate", "--help"], ["report", "--help"], ["sweep", "--help"]]
)
def test_help_is_help(words, capsys):
    assert run(*words) == 0
    out = capsys.readouterr().out
    assert "bregma" in out
    assert "`" not in out  # docstrings are shown to people here, not to a documentation tool


def test_help_shows_the_settings_recommended_for_the_data(capsys):
    def shown(*words: str) -> str:
        run("train", *words, "--help")
        return " ".join(capsys.readouterr().out.replace("│", " ").split())  # in one line

    assert "hidden layer. (default: 128)" in shown("--data", "mnist")
    assert "the highest. (default: 2.0)" in shown("--method", "linbreg")
    assert "the highest. (default: 0.005)" in shown("--config", "delrec_shd", "--data", "ssc")


def test_train_leaves_a_run_folder(finished):
    names = {path.name for path in finished.iterdir()}
    assert names >= {
        "config.toml", "metrics.jsonl", "summary.json", "report.html", "figures",
        "best.safetensors", "last.safetensors", "last.pt", "sample.safetensors",
    }  # fmt: skip
    assert not [name for name in names if name.startswith(".")]


def test_a_density_is_met_and_shown_with_its_target(tmp_path, capsys):
    path = tmp_path / "tenth"
    assert run("train", "--density", "0.1", "--epochs", "4", "--hidden", "16", "--steps", "5", "--out", str(path)) == 0
    assert "density 0.100 (target 0.1), " in capsys.readouterr().err
    assert json.loads((path / "summary.json").read_text())["density"] == pytest.approx(0.1, abs=0.001)
    page = (path / "report.html").read_text()
    assert "(target 0.1)" in page
    assert "bregma train --data digits --method adabreg --density 0.1 --epochs 4" in page


def test_evaluate_repeats_the_test_accuracy(finished, capsys):
    assert run("evaluate", str(finished)) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["test_accuracy"] == json.loads((finished / "summary.json").read_text())["test_accuracy"]


def test_admm_is_trained_evaluated_and_reported(tmp_path, capsys):
    path, short = tmp_path / "admm", ["--hidden", "16", "--steps", "5", "--admm.iterations", "4"]
    assert run("train", "--method", "admm", *short, "--admm.samples", "100", "--out", str(path)) == 0
    assert "iteration 4/4  loss " in capsys.readouterr().err
    assert {"solver.svg", "learning.svg"} <= {figure.name for figure in (path / "figures").iterdir()}
    assert run("evaluate", str(path)) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["test_accuracy"] == json.loads((path / "summary.json").read_text())["test_accuracy"]
    before = (path / "report.html").read_text()
    assert "bregma train --data digits --method admm --hidden 16 --steps 5 --admm.iterations 4" in before
    assert run("report", str(path)) == 0
    assert (path / "report.html").read_text() == before


def test_report_lays_runs_side_by_side(finished, tmp_path, capsys):
    assert run("report", str(finished), str(finished), "--out", str(tmp_path / "both.html")) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "both.html")
    assert (tmp_path / "both.html").read_text().startswith("<!DOCTYPE html>")


def test_sweep_leaves_a_folder_with_a_page_and_a_table(tmp_path, capsys):
    out = tmp_path / "sweep"
    words = ["--density", "0.5,0.2", "0.1", "--method", "adabreg,gmp", "--seeds", "1"]
    assert run("sweep", *QUICK, *words, "--out", str(out)) == 0
    shown = capsys.readouterr()
    assert shown.out.strip() == str(out / "report.html")
    assert "6/6  gmp at 0.1, seed 0, lr 0.02: test " in shown.err
    assert "magnitude pruning" in shown.err
    assert len([path for path in out.iterdir() if path.is_dir()]) == 7  # six runs and the figures
    assert run("report", str(out)) == 0
    assert capsys.readouterr().out.strip() == str(out / "report.html")
    assert run("sweep", "--resume", str(out)) == 0
    assert "6/6  gmp at 0.1, seed 0, lr 0.02: test " in capsys.readouterr().err
    assert run("sweep", "--resume", str(out), "--seeds", "2") == 2
    assert "resume goes on with the settings of the sweep" in capsys.readouterr().err
    assert run("report", str(out), str(out / "gmp-0.1-seed0")) == 2
    assert f"{out} holds a sweep, not a run; name a run folder in it" in capsys.readouterr().err
    for command in ("sweep", "train"):
        assert run(command, "--out", str(out)) == 2
        assert "already holds a sweep" in capsys.readouterr().err


def test_data_lists_every_set(capsys):
    assert run("data") == 0
    out = capsys.readouterr().out
    for name in ("digits", "mnist", "psmnist", "nmnist", "shd", "ssc"):
        assert name in out


def test_folders_are_named_as_they_are(tmp_path, capsys):
    """Brackets are no markup, and a command with blanks in it can be copied."""
    (root := tmp_path / "my [old] data").mkdir()
    (root / "shd_train.h5").write_bytes(b"no such file")
    assert run("data", "--root", str(root)) == 0
    assert f"folder of the data: {root}\n" in capsys.readouterr().out
    assert run("data", "shd", "--root", str(root)) == 0
    assert f"({root / 'shd_train.h5'})\n" in capsys.readouterr().out
    assert train._conclude(RunFolder(root), None) == 130
    assert f"go on with: bregma train --resume '{root}'\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--lr", "-1"], "lr must be a finite number > 0, got -1.0"),
        (["train", "--method", "admm", "--lr", "0.1"], "lr has no meaning for the method admm, got 0.1; leave it out"),
        (["train", "--admm.rho", "3"], "admm.rho has no meaning for the method adabreg, got 3.0; leave it out"),
        (
            ["train", "--method", "admm", "--admm.rho", "3"],
            "admm.rho has no meaning for the solver consistent",
        ),
        (["train", *PAPER, "--admm.rho", "-1"], "admm.rho must be > 0 and finite, got -1.0"),
        (["train", *PAPER, "--admm.step", "0.1"], "admm.step has no meaning for the solver paper, got 0.1; leave it"),
        (
            ["train", *PAPER, "--density", "0.1"],
            "density has no meaning for the method admm with the solver paper",
        ),
        (["train", "--method", "admm", "--density", "0.0001", "--out", "{tmp}/thin"], "density must be >= 0.01"),
        (["train", "--weight-decay", "0.1"], "weight_decay has no meaning for the method adabreg without a density"),
        (
            ["train", "--method", "adam", "--lam", "0.1"],
            "lam has no meaning for the method adam, got 0.1; leave it out",
        ),
        (["train", *PAPER, "--recurrent"], "recurrent has no meaning for the method admm with the solver paper"),
        (["sweep", "--delay-lr", "0.1"], "delay_lr has no meaning for the network mlp, got 0.1; leave it out"),
        (["train", "--init-density", "1.5"], "init_density must be in (0, 1], got 1.5"),
        (["train", "--data", "nothing"], "data must be one of digits"),
        (["train", "--data", "shd", "--root", "{tmp}"], "shd_train.h5"),
        (["train", "--resume", "{tmp}"], "holds no run: config.toml is missing"),
        (["train", "--resume", "{run}", "--epochs", "9"], "resume goes on with the settings of the run"),
        (["train", "--resume", "{run}", "--epochs", "30"], "resume goes on with the settings of the run"),
        (["train", "--resume", "{run}", "--data", "mnist"], "resume goes on with the settings of the run"),
        (["train", "--threads", "100000"], "threads must be in [1, 1024], got 100000"),
        (["train", "--epochs", "1", "--hidden", "4000000000000", "--out", "{tmp}/large"], "a network of 800 x 4"),
        (["train", "--out", ""], "out must not be empty"),
        (["train", "--data="], "data must not be empty"),
        (["evaluate", ""], "run must not be empty"),
        (["train", *QUICK, "--out", "{run}"], "already holds a run"),
        (["evaluate", "{tmp}"], "holds no run: config.toml is missing"),
        (["evaluate", "{run}", "--data", "{tmp}"], "not recognised"),
        (
            ["evaluate", "{run}", "--data", "{mnist}"],
            "the network takes 5 steps, which {mnist} cannot have (steps must",
        ),
        (["report"], "runs: name at least one run folder"),
        (["report", "{run}", "--out", "{tmp}"], "is a folder; name the page to write"),
        (["sweep", "--density", "0.5,1.5"], "density must be one or more numbers in (0, 1], got 1.5"),
        (["sweep", "--density", "0.5,x"], "bregma: --density must be FLOAT,FLOAT,..., got 'x'\n"),
        (["sweep", "--method", "linbreg"], "method must be one or more of adabreg, gmp"),
        (["sweep", "--lr", "0.1,-1"], "lr must be a finite number > 0, got -1.0"),
        (["sweep", "--epochs", "0"], "epochs must be >= 1, got 0"),
        (["sweep", "--resume", "{tmp}"], "holds no sweep: sweep.toml is missing"),
        (["train", "--method", "gmp"], "density must be in (0, 1] for the method gmp, got 0.0"),
        (["train", "--out", "{run}/config.toml"], "is a file, not a folder"),
        (["train", "--lr", "abc"], "bregma: --lr must be FLOAT, got 'abc'\n"),
        (["train", "--hidden", "32,32"], "bregma: --hidden must be [INT [INT ...]], got ['32,32']\n"),
        (["train", "--method", "sgd"], "Expected one of"),
        (["train", "--lx", "3"], "Unrecognized options: --lx, 3\n"),
        (["sweep", "--lam", "0.1"], "Unrecognized options: bregma sweep has no --lam\n"),
        (["train", "--densty", "0.1"], "Unrecognized options: --densty, 0.1; perhaps you meant --density\n"),
        (["train", "--density", "0.1", "--lam", "0.3"], "lam has no meaning for the method adabreg with a density"),
        (["train", "--admm.iterations", "1000"], "admm.iterations has no meaning for the method adabreg, got 1000"),
        (["train", "--method", "admm", "--admm.rho=1"], "admm.rho has no meaning for the solver consistent, got 1.0"),
        (["train", "--shift", "20"], "shift must leave some of the image, got 20 for frames of (2, 20, 20)"),
        (["train", "--validation", "0.0001"], "validation must be a share that leaves samples in both parts"),
        (["sweep", *QUICK, "--out", "{run}"], "already holds a run; choose another folder"),
        (["compact", "{run}", "--out", "{run}/config.toml"], "config.toml is a file, not a folder"),
        (["export", "{run}", "--to", "state", "--dt", "1"], "dt has no meaning for state, got 1.0; leave it out"),
        (["evaluate"], "bregma evaluate needs RUN\n"),
        (["export", "{run}"], "bregma export needs --to {nir,snntorch,state,onnx}\n"),
        ([], "train"),
        (["data", "nothing"], "name must be one of digits"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(words, message, finished, tmp_path, capsys):
    words = [word.format(tmp=tmp_path, run=finished, mnist=MNIST) for word in words]
    assert run(*words) == 2
    error = capsys.readouterr().err
    assert message.replace("{mnist}", str(MNIST)) in error
    assert error.startswith("bregma: ")
    assert error.count("\n") == 1


def test_settings_that_cannot_work_leave_no_folder_in_the_way(tmp_path, capsys):
    words = ("train", "--method", "admm", "--hidden", "8", "--admm.iterations", "2", "--out", str(tmp_path / "run"))
    assert run(*words, "--density", "0.001") == 2
    assert "for a whole readout of 80 weights" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert run(*words, "--density", "0.5") == 0


def test_data_with_other_classes_than_the_network_are_refused(finished, capsys):
    tampered = finished.parent / "fewer"
    shutil.copytree(finished, tampered)
    config = (tampered / "config.toml").read_text()
    (tampered / "config.toml").write_text(config.replace(', "9"]', "]"))
    assert run("evaluate", str(tampered)) == 2
    assert "data: digits has the classes 0, 1, 2 ... 9 (10), the network 0, 1, 2 ... 8 (9)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "method", [["--epochs", "1000"], ["--method", "admm", "--admm.iterations", "100000", "--admm.measure-every", "2"]]
)
def test_ctrl_c_writes_a_checkpoint_and_says_how_to_go_on(tmp_path, method):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "bregma", "train", "--hidden", "16", "--steps", "5", "--out", str(out)]
    process = subprocess.Popen(
        [*command, *method], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ
    )
    for _ in range(600):
        if (out / "last.pt").exists() or process.poll() is not None:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"go on with: bregma train --resume {out}" in error.replace("\n", "")
    assert (out / "last.pt").exists()
    assert not (out / "summary.json").exists()


def test_compact_shows_what_is_left_and_writes_it(finished, tmp_path, capsys):
    assert run("compact", str(finished), "--out", str(tmp_path / "small")) == 0
    out = capsys.readouterr().out
    assert re.search(r"hidden.0.linear +16 -> \d+ ", out)
    assert "as before; the same answer to all 359 samples" in out
    assert out.splitlines()[-1] == str(tmp_path / "small" / "sparse.safetensors")
    assert (tmp_path / "small" / "sparse.safetensors").is_file()
    assert run("compact", str(finished), "--data", "nowhere.h5") == 2
    assert "data must be one of" in capsys.readouterr().err
    assert run("compact", str(tmp_path)) == 2
    assert "holds no run: config.toml is missing" in capsys.readouterr().err

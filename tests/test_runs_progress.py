"""The progress bar says what it is told, on a terminal and without one."""

import io

from rich.console import Console

from bregma.runs.experiment import recipe
from bregma.runs.progress import ProgressBar, SolverBar, SweepBar, progress_bar

ROW = {
    "epoch": 2,
    "train_loss": 0.25,
    "validation_accuracy": 0.9,
    "density": 0.125,
    "firing_rate": 0.2,
}


def drawn(terminal: bool, width: int) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=width)
    with ProgressBar(console, recipe("digits", epochs=3)) as bar:
        bar.start(20, 30)
        bar.step(1.0)
        bar.step(2.0)
        bar.epoch(ROW)
    return console.file.getvalue()


def test_the_bar_fits_a_terminal_of_80_columns():
    last = [line for line in drawn(True, 80).replace("\r", "\n").split("\n") if "epoch" in line][-1]
    for figure in ("epoch 3/3", "loss 1.100", "val 90.0%", "density 0.125", "rate 0.200", "left"):
        assert figure in last


def test_without_a_terminal_each_epoch_is_one_plain_line():
    out = drawn(False, 80)
    assert out.strip() == "epoch 2/3  loss 0.250  val 90.0%  density 0.125  rate 0.200"
    assert "\x1b" not in out


SOLVER_ROW = {
    "epoch": 20,
    "train_accuracy": 0.743,
    "validation_accuracy": 0.701,
    "solver": {
        "lagrangian": 3684.4,
        "loss": 1.234,
        "primal": 0.0082,
        "membrane_residuals": [40.1, 6.1],
        "spike_residuals": [243.0],
    },
}


def solved(terminal: bool, width: int, row: dict = SOLVER_ROW) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=width)
    with progress_bar(console, recipe("digits", "admm", "paper" if row is SOLVER_ROW else "consistent")) as bar:
        bar.start(19, 300)
        bar.step()
        bar.epoch(row)
    return console.file.getvalue()


def test_the_bar_of_a_solver_fits_a_terminal_of_80_columns():
    last = [line for line in solved(True, 80).replace("\r", "\n").split("\n") if "it 20/300" in line][-1]
    for figure in ("L 3.7e+03", "loss 1.2", "z 40", "a 2.4e+02", "train 74.3%", "val 70.1%", "left"):
        assert figure in last


def test_the_solver_too_is_one_plain_line_without_a_terminal():
    assert solved(False, 80).strip() == (
        "iteration 20/300  L 3.7e+03  loss 1.2  primal 0.0082  z 40  a 2.4e+02  train 74.3%  val 70.1%"
    )


def test_the_consistent_solver_shows_how_often_neurons_fire():
    row = SOLVER_ROW | {"firing_rate": 0.1512, "solver": {"loss": 0.0421, "step": 0.049}}
    text = "loss 0.042  train 74.3%  val 70.1%  rate 0.151"
    assert solved(False, 80, row).strip() == f"iteration 20/300  {text}"
    assert text.replace("  ", " ") in solved(True, 80, row)


def test_each_method_has_its_bar():
    console = Console(file=io.StringIO())
    assert type(progress_bar(console, recipe("digits", "admm"))) is SolverBar
    assert type(progress_bar(console, recipe("digits"))) is ProgressBar


def swept(terminal: bool) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=80)
    with SweepBar(console) as bar:
        for number in (1, 2):
            bar.begin(number, 4, recipe("digits", "gmp", density=0.05, epochs=3, seed=number))
            if number == 2:  # the first was there already
                bar.start(0, 30)
                bar.step(1.0)
                bar.epoch(ROW)
            bar.end({"test_accuracy": 0.9, "density": 0.05, "seconds": 6.0})
    return console.file.getvalue()


def test_the_bar_of_a_sweep_says_which_run_of_how_many():
    last = [line for line in swept(True).replace("\r", "\n").split("\n") if "epoch" in line][-1]
    for figure in ("run 2/4", "epoch 3/3", "val 90.0%", "left"):
        assert figure in last


def test_each_run_of_a_sweep_leaves_one_line():
    assert swept(False).splitlines() == [
        "1/4  gmp at 0.05, seed 1, lr 0.02: test 90.00%, density 0.050, was there",
        "2/4  gmp at 0.05, seed 2, lr 0.02: test 90.00%, density 0.050, 6 s",
    ]

"""The progress bar says what it is told, on a terminal and without one."""

import io

from rich.console import Console

from bregma.runs.experiment import recipe
from bregma.runs.progress import ProgressBar, SweepBar

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

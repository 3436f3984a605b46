"""Event files of a run, read back by TensorBoard itself."""

import json
import sys

import pytest
from tiny_runs import start, stop_after, tiny

from bregma.cli import main
from bregma.interop.libraries import missing
from bregma.runs.loop import train
from bregma.runs.progress import Together


def scalars(folder):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_events_are_the_metrics_of_the_run(tmp_path, splits):
    pytest.importorskip("tensorboard")
    from bregma.interop.tensorboard import TensorBoard

    folder = start(tmp_path / "run", splits, tiny(epochs=2))
    with TensorBoard(tmp_path / "events") as board:
        train(folder, splits, observer=board, should_stop=stop_after(7))
    with TensorBoard(tmp_path / "events") as board:
        train(folder, splits, resume=True, observer=board)
    seen = scalars(tmp_path / "events")
    assert [step for step, _ in seen["loss/step"]] == list(range(1, 11))  # 70 samples in 5 batches, twice
    rows = folder.metrics()
    assert [value for _, value in seen["accuracy/validation_accuracy"]] == pytest.approx(
        [row["validation_accuracy"] for row in rows]
    )
    assert [step for step, _ in seen["run/density"]] == [5, 10]
    assert "layer_density/hidden.0.linear.weight" in seen
    assert "firing_rates/hidden.0.neurons" in seen


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_command_line_writes_them(tmp_path):
    pytest.importorskip("tensorboard")
    words = ["train", "--epochs", "1", "--hidden", "8", "--steps", "4", "--tensorboard", "--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as end:
        main(words)
    assert not end.value.code
    accuracy = json.loads((tmp_path / "run" / "summary.json").read_text())["validation_accuracy"]
    assert scalars(tmp_path / "run" / "tensorboard")["accuracy/validation_accuracy"][0][1] == pytest.approx(accuracy)


def test_without_the_library_nothing_is_made(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(SystemExit) as end:
        main(["train", "--tensorboard", "--out", str(tmp_path / "run")])
    assert end.value.code == 2
    assert capsys.readouterr().err == f"bregma: {missing('tensorboard', 'tensorboard')}\n"
    assert not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_solver_has_lists_and_no_loss_per_step(tmp_path):
    pytest.importorskip("tensorboard")
    from bregma.interop.tensorboard import TensorBoard

    with TensorBoard(tmp_path) as board:
        board.start(0, 2)
        board.step()
        board.epoch(
            {"epoch": 1, "train_loss": 0.5, "solver": {"lagrangian": 2.0, "residuals": [3.0, 4.0], "name": "x"}}
        )
    assert scalars(tmp_path) == {
        "loss/train_loss": [(1, 0.5)],
        "solver/lagrangian": [(1, 2.0)],
        "solver/residuals/0": [(1, 3.0)],
        "solver/residuals/1": [(1, 4.0)],
    }


def test_observers_together_hear_the_same():
    heard = []

    class Listener:
        def __init__(self, name):
            self.name = name

        def start(self, done, total):
            heard.append((self.name, done, total))

        def step(self, loss):
            heard.append((self.name, loss))

        def epoch(self, row):
            heard.append((self.name, row))

    both = Together([Listener("a"), Listener("b")])
    both.start(1, 2)
    both.step(0.5)
    both.epoch({})
    assert heard == [("a", 1, 2), ("b", 1, 2), ("a", 0.5), ("b", 0.5), ("a", {}), ("b", {})]

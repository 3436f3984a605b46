"""``bregma compact``: a finished run made smaller, checked against itself."""

import dataclasses
import json
import re

import pytest
import safetensors.torch
import torch
from tiny_runs import best_network, start, tiny

import bregma
from bregma.runs.build import build_network
from bregma.runs.loop import train
from bregma.runs.smaller import compact_run, table


@pytest.fixture(scope="module")
def run(tmp_path_factory, splits):
    folder = start(tmp_path_factory.mktemp("runs") / "tenth", splits, tiny(hidden=(20, 20), density=0.1, lr=0.05))
    train(folder, splits)
    return folder


def test_the_files_hold_a_smaller_network_with_the_same_answers(run, splits):
    figures = compact_run(run, splits.test, run.path)
    assert figures == json.loads((run.path / "compact.json").read_text())
    x, labels = splits.test.__getitems__(range(len(splits.test)))
    expected = best_network(run, splits)(x).detach()
    sparse = bregma.SparseNetwork.load(run.path / "sparse.safetensors")
    torch.testing.assert_close(sparse(x), expected, rtol=0, atol=1e-5)
    tensors = safetensors.torch.load_file(run.path / "compact.safetensors")
    config = run.config()
    sizes = tuple(len(tensors[f"hidden.{k}.linear.bias"]) for k in range(2))
    assert sum(sizes) < 40
    net = build_network(dataclasses.replace(config, experiment=dataclasses.replace(config.experiment, hidden=sizes)))
    net.load_state_dict(tensors)
    torch.testing.assert_close(net(x).detach(), expected, rtol=0, atol=1e-5)
    accuracy = (expected.argmax(1) == labels).double().mean().item()
    assert figures["test_accuracy"] == pytest.approx({"before": accuracy, "after": accuracy})


def test_the_figures_say_what_was_saved(run, splits, tmp_path):
    figures = compact_run(run, splits.test, tmp_path / "new" / "folder")
    rows = {row["weight"]: row for row in figures["layers"]}
    assert list(rows) == ["hidden.0.linear.weight", "hidden.1.linear.weight", "readout.linear.weight"]
    for row in rows.values():
        for quantity in ("neurons", "entries", "connections", "operations"):
            assert row[quantity]["after"] <= row[quantity]["before"]
    assert rows["hidden.0.linear.weight"]["entries"]["before"] == 12 * 20
    assert rows["hidden.0.linear.weight"]["neurons"]["after"] < 20
    written = {path.name for path in (tmp_path / "new" / "folder").iterdir()}
    assert written == {"compact.safetensors", "sparse.safetensors", "compact.json"}
    assert re.fullmatch(r"\d+ -> \d+", str(table(figures).columns[1].footer))


def test_other_answers_are_an_error_and_nothing_is_written(run, splits, tmp_path, monkeypatch):
    real = bregma.compact

    def wrong(net):
        small = real(net)
        small.readout.linear.bias.data[0] += 100.0
        return small

    monkeypatch.setattr("bregma.runs.smaller.compact", wrong)
    with pytest.raises(ValueError, match=r"tenth: the smaller network answers differently on \d+ of 30 samples"):
        compact_run(run, splits.test, tmp_path / "out")
    assert not (tmp_path / "out").exists()

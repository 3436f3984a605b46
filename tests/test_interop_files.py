"""Networks as files of other tools: what is read back, or run by the tool itself, computes the same."""

import json
import logging
import runpy
import subprocess
import sys
from collections import OrderedDict

import numpy as np
import pytest
import safetensors.torch
import torch
from test_interop_nir import NETS
from test_interop_snntorch import frames
from tiny_runs import best_network, start, tiny
from torch import nn

from bregma.cli import main
from bregma.dynamics import Triangle
from bregma.interop.chain import as_sequential
from bregma.interop.libraries import missing
from bregma.interop.state import read_state, write_state
from bregma.nn import LIF, SpikingMLP, SpikingSequential
from bregma.runs.build import build_network
from bregma.runs.experiment import recipe
from bregma.runs.loop import train


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(words))
    return end.value.code or 0


@pytest.fixture(scope="module")
def finished(tmp_path_factory, splits):
    folder = start(tmp_path_factory.mktemp("runs") / "tiny", splits, tiny(recurrent=True, epochs=1))
    train(folder, splits)
    return folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NETS)
def test_a_state_file_is_the_network(name, dtype, tmp_path):
    make, shape = NETS[name]
    net = as_sequential(make()).to(dtype)
    write_state(net, tmp_path / "net.safetensors")
    back = read_state(tmp_path / "net.safetensors").train(net.training)
    assert repr(back) == repr(net)
    x = 4 * frames(9, 4, *shape).to(dtype)
    assert torch.equal(back(x), net(x))
    assert [p.requires_grad for p in back.parameters()] == [p.requires_grad for p in net.parameters()]


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(2, 2, (1, 3), padding="same", dilation=(1, 2), groups=2),
        nn.AvgPool2d(3, 2, padding=1, ceil_mode=True, count_include_pad=False),
        nn.AvgPool2d(2, divisor_override=3),
        nn.Flatten(2),
        nn.BatchNorm2d(2, affine=False, momentum=None),
        nn.BatchNorm2d(2, eps=0.1, track_running_stats=False),
    ],
    ids=repr,
)
def test_a_state_file_has_all_settings_of_a_layer(layer, tmp_path):
    net = SpikingSequential(layer, LIF())
    write_state(net, tmp_path / "net.safetensors")
    back = read_state(tmp_path / "net.safetensors").train(net.training)
    assert repr(back) == repr(net)
    x = 4 * frames(9, 4, 2, 6, 6)
    assert torch.equal(layer(x[0]), back[0](x[0]))


def test_a_broken_state_file_is_one_line(tmp_path):
    path = tmp_path / "net.safetensors"
    with pytest.raises(FileNotFoundError, match="bregma export RUN --to state"):
        read_state(path)
    write_state(SpikingMLP(4, hidden=(3,), classes=2), path)
    whole = path.read_bytes()
    tensors = safetensors.torch.load_file(path)
    path.write_bytes(whole[:-9])
    with pytest.raises(ValueError, match="not a readable safetensors"):
        read_state(path)
    path.write_bytes(safetensors.torch.save(tensors))
    with pytest.raises(ValueError, match="holds 'no network'"):
        read_state(path)
    huge = json.dumps([{"name": "a", "type": "Linear", "in_features": 10**9, "out_features": 10**9, "bias": False}])
    header = {"format": "bregma network 1", "score": "", "network": huge}
    path.write_bytes(safetensors.torch.save({"a.weight": torch.zeros(2, 2)}, metadata=header))
    with pytest.raises(ValueError, match="do not fit"):
        read_state(path)


def test_layers_unknown_to_the_state_file_are_named(tmp_path):
    with pytest.raises(TypeError, match="0: GELU"):
        write_state(SpikingSequential(nn.GELU()), tmp_path / "x")


def test_export_state(finished, splits, capsys):
    assert run("export", str(finished.path), "--to", "state") == 0
    path = finished.path / "net.safetensors"
    assert capsys.readouterr().out.strip() == str(path)
    x = splits.test.frames(np.arange(10))
    assert torch.equal(read_state(path)(x.flatten(2)), best_network(finished, splits)(x))


def test_a_run_of_admm_is_exported_as_well(tmp_path, splits):
    config = start(tmp_path / "admm", splits, recipe("digits", "admm", hidden=(8,))).config()
    net, path = build_network(config), tmp_path / "net.safetensors"
    write_state(net, path)
    x = splits.test.frames(np.arange(10))
    assert read_state(path).score == net.score
    assert torch.equal(read_state(path)(x.flatten(2)), net(x))


def test_export_nir(finished, splits, tmp_path, capsys):
    pytest.importorskip("nir")
    from bregma.interop.nir import from_nir

    path = tmp_path / "out.nir"
    assert run("export", str(finished.path), "--to", "nir", "--out", str(path), "--dt", "0.001") == 0
    captured = capsys.readouterr()
    assert captured.out.strip() == str(path)
    assert "note: NIR holds these as metadata only: hidden_0_neurons: reset 'subtract'" in captured.err
    x = splits.test.frames(np.arange(10))
    assert torch.equal(from_nir(path)(x.flatten(2)), best_network(finished, splits)(x))


RUN_ALONE = """
import sys, torch, safetensors.torch
sys.path.insert(0, sys.argv[1])
sys.modules["bregma"] = None  # an import of it would fail
import network
given = safetensors.torch.load_file(sys.argv[2])
print((network.scores(network.load(), given["x"]) - given["wanted"]).abs().max().item())
"""


def test_export_snntorch_runs_without_us(finished, splits, tmp_path):
    pytest.importorskip("snntorch")
    assert run("export", str(finished.path), "--to", "snntorch") == 0
    x = splits.test.frames(np.arange(30))
    given = {"x": x, "wanted": best_network(finished, splits)(x).detach()}
    safetensors.torch.save_file(given, tmp_path / "given.safetensors")
    words = [sys.executable, "-c", RUN_ALONE, str(finished.path / "snntorch"), str(tmp_path / "given.safetensors")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    assert float(done.stdout) < 1e-5


def test_snntorch_has_all_settings_of_convolutions_and_pools(tmp_path):
    pytest.importorskip("snntorch")
    from bregma.interop.snntorch_files import write_snntorch

    pool = nn.AvgPool2d(3, 2, padding=1, ceil_mode=True, count_include_pad=False, divisor_override=2)
    layers = {"conv": nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), "pool": pool, "neurons": LIF(decay=0.5)}
    net, x = SpikingSequential(OrderedDict(layers), score="sum"), 4 * frames(9, 4, 2, 6, 6)
    write_snntorch(net, tmp_path)
    made = runpy.run_path(str(tmp_path / "network.py"))
    peer = made["load"]()
    assert repr(peer[:2]) == repr(nn.Sequential(OrderedDict(list(layers.items())[:2])))
    assert torch.equal(peer[1](x[0]), pool(x[0]))


def test_what_snntorch_alone_cannot_hold_is_named(tmp_path):
    pytest.importorskip("snntorch")
    from bregma.interop.snntorch_files import write_snntorch

    layers = {"dense": nn.Linear(2, 2), "neurons": LIF(surrogate=Triangle())}
    net = SpikingSequential(OrderedDict(layers))
    with pytest.raises(ValueError, match="neurons: snnTorch alone has"):
        write_snntorch(net, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_export_onnx(finished, splits, caplog):
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    (log := logging.getLogger("torch.onnx")).addHandler(caplog.handler)
    try:
        assert run("export", str(finished.path), "--to", "onnx") == 0
    finally:
        log.removeHandler(caplog.handler)
    assert not [record for record in caplog.records if record.name.startswith("torch.onnx")]  # of torchvision
    x = splits.test.frames(np.arange(10))
    wanted = best_network(finished, splits)(x).detach().numpy()
    scores, _ = run_onnx(onnxruntime, finished.path / "net.onnx", x.flatten(2))
    np.testing.assert_allclose(scores.mean(0), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["convolution", "delays", "spread", "delrec"])
def test_onnx_steps_equal_the_network(name, tmp_path):
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    from bregma.interop.onnx import to_onnx

    make, shape = NETS[name]
    torch.manual_seed(0)
    net = as_sequential(make()).eval()
    net.score = None
    to_onnx(net, tmp_path / "net.onnx", frame_shape=shape)
    x = 2 * frames(9, 4, *shape)
    scores, states = run_onnx(onnxruntime, tmp_path / "net.onnx", x)
    wanted = net(x).detach().numpy()
    assert wanted.any()
    np.testing.assert_allclose(scores, wanted, rtol=1e-5, atol=1e-5)
    assert all(np.isfinite(state).all() for state in states)


def test_onnx_names_a_frame_that_does_not_fit(tmp_path):
    pytest.importorskip("onnxscript")
    from bregma.interop.onnx import to_onnx

    for first, shape, message in (
        (nn.Linear(4, 3), (99,), r"frame_shape must be \(4,\) for the first layer, got \(99,\)"),
        (nn.Conv2d(2, 3, 3), None, "frame_shape must be given unless the first layer is dense, got a Conv2d"),
        (nn.Conv2d(2, 3, 3), (5, 8, 8), r"frame_shape must fit the network, got \(5, 8, 8\): "),
    ):
        with pytest.raises(ValueError, match=message):
            to_onnx(SpikingSequential(first, LIF()), tmp_path / "net.onnx", frame_shape=shape)
    assert not list(tmp_path.iterdir())


def run_onnx(onnxruntime, path, x):
    """Output at each step and the last states, from rest."""
    session = onnxruntime.InferenceSession(path)
    names = [given.name for given in session.get_inputs()]
    batch = x.shape[1]
    states = [
        np.zeros([size if isinstance(size, int) else batch for size in given.shape], dtype=np.float32)
        for given in session.get_inputs()[1:]
    ]
    scores = []
    for frame in x.numpy():
        output, *states = session.run(None, dict(zip(names, [frame, *states], strict=True)))
        scores.append(output)
    return np.stack(scores), states


@pytest.mark.parametrize(
    ("library", "to"), [("nir", "nir"), ("snntorch", "snntorch"), ("onnx", "onnx"), ("onnxscript", "onnx")]
)
def test_a_missing_library_is_one_line_that_says_how_to_get_it(library, to, finished, monkeypatch, capsys):
    if library == "onnxscript":
        pytest.importorskip("onnx")
    monkeypatch.setitem(sys.modules, library, None)
    assert run("export", str(finished.path), "--to", to) == 2
    assert capsys.readouterr().err == f"bregma: {missing(library, to)}\n"


def test_export_without_a_run_is_one_line(tmp_path, capsys):
    assert run("export", str(tmp_path), "--to", "state") == 2
    assert capsys.readouterr().err == f"bregma: {tmp_path} holds no run: config.toml is missing\n"

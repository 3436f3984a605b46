"""Every example runs to its end and does what it says."""

import functools
import importlib.util
from pathlib import Path

import pytest

import bregma.data

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture(autouse=True, scope="module")
def _digits_once():
    """The examples share one copy of the data, whose simulation takes most of their time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bregma.data, "load", functools.cache(bregma.data.load))
        yield


def example(name, *needed):
    for library in needed:
        pytest.importorskip(library, exc_type=ImportError)
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_examples_are_short(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) < 64
    assert lines[2] == f"python examples/{path.name}"


@pytest.mark.parametrize(
    ("name", "needed"),
    [("snntorch_adabreg", ("snntorch",)), ("fabric_adabreg", ("lightning_fabric",)), ("skorch_adabreg", ("skorch",))],
)
def test_adabreg_at_home(name, needed):
    result = example(name, *needed).main(epochs=3)
    assert result["accuracy"] > 0.8
    assert result["density"] < 0.5


def test_admm_to_snntorch():
    result = example("admm_to_snntorch", "snntorch").main(epochs=4)
    assert result["agreement"] > 0.99
    assert result["accuracy"] > 0.7


@pytest.mark.filterwarnings("ignore")  # Lightning warns of workers, of the GPU that is not there ...
def test_lightning_callback():
    result = example("lightning_callback", "lightning").main(epochs=3)
    assert result["accuracy"] > 0.8
    assert result["density"] == pytest.approx(0.1, abs=1e-3)


def test_optuna_density():
    result = example("optuna_density", "optuna").main(trials=2, epochs=1)
    assert result["accuracy"] > 0.5
    assert 0.02 <= result["density"] <= 0.5


def test_nir_round_trip():
    assert example("nir_round_trip", "nir").main() == {"same": True}

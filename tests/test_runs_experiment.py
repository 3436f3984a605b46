"""Settings of a run: what is wrong with one is named before any work."""

import pytest

from bregma.runs.admm_settings import ADMMSettings
from bregma.runs.experiment import METHODS, PRUNING, Experiment, recipe
from bregma.runs.recommended import DATA_RECIPES, recommended

DELREC = {"network": "delrec_shd", "hidden": (256, 256)}


def test_a_density_changes_what_is_recommended_and_needs_a_method_that_meets_it():
    assert recipe("digits", density=0.1).lr > recipe("digits").lr
    assert recipe("digits", density=0.1, lr=0.5).lr == 0.5
    with pytest.raises(ValueError, match=r"density needs one of the methods adabreg, gmp, .*, got linbreg"):
        recipe("digits", "linbreg", density=0.1)
    with pytest.raises(ValueError, match=r"density must be in \(0, 1\] for the method gmp, got 0.0"):
        recipe("digits", "gmp")


def test_a_network_of_delrec_has_a_fixed_number_of_layers():
    with pytest.raises(ValueError, match=r"hidden must be 3 sizes for the network delrec_ssc, got \(8, 8\)"):
        Experiment(network="delrec_ssc", hidden=(8, 8))


@pytest.mark.parametrize(("field", "value"), [("structure", "neurons"), ("cost", "synops"), ("l1", 1e-4)])
def test_structure_cost_and_l1_need_a_density(field, value):
    assert getattr(recipe("digits", density=0.5, **{field: value}), field) == value
    with pytest.raises(ValueError, match=f"{field} needs a density, got {value!r} without one"):
        recipe("digits", **{field: value})


@pytest.mark.parametrize(
    ("run", "field", "value", "whom"),
    [
        ({}, "weight_decay", 0.1, "the method adabreg without a density"),
        ({"method": "linbreg"}, "weight_decay", 0.1, "the method linbreg"),
        ({"method": "admm"}, "weight_decay", 0.1, "the method admm"),
        ({"method": "admm"}, "delay_lr", 0.1, "the method admm"),
        ({"method": "admm", "admm": ADMMSettings("paper")}, "recurrent", True, "the method admm with the solver paper"),
        ({"method": "adam"}, "lam", 0.1, "the method adam"),
        ({"method": "adamw"}, "penalty", "nuclear", "the method adamw"),
        ({"density": 0.1}, "lam", 0.1, "the method adabreg with a density"),
        ({"density": 0.1, "method": "gmp"}, "penalty", "none", "the method gmp"),
        ({"density": 0.1}, "init", "shrink", "the method adabreg with a density"),
        ({"method": "proxsgd"}, "init", "anchored", "the method proxsgd"),
        ({"method": "proxsgd"}, "init_density", 0.5, "the method proxsgd"),
        ({"init": "anchored"}, "init_density", 0.5, "the init anchored"),
        ({}, "delay_lr", 0.1, "the network mlp"),
        ({}, "delay_schedule", "cosine", "the network mlp"),
        ({}, "rounding", "training", "the network mlp"),
        (DELREC, "recurrent", True, "the network delrec_shd"),
        (DELREC, "decay", 0.5, "the network delrec_shd"),
        (DELREC, "readout_decay", 0.5, "the network delrec_shd"),
        (DELREC, "gain", 1.0, "the network delrec_shd"),
    ],
)
def test_a_setting_that_would_do_nothing_is_refused(run, field, value, whom):
    made = Experiment(**run)
    assert not made.takes(field)
    assert field not in made.to_dict()
    with pytest.raises(ValueError, match=f"^{field} has no meaning for {whom}, got {value!r}; leave it out$"):
        Experiment(**run | {field: value})


@pytest.mark.parametrize(
    ("run", "field", "value"),
    [
        ({"method": "adam"}, "weight_decay", 0.1),
        ({"density": 0.1}, "weight_decay", 0.1),
        ({"density": 0.1, "method": "rigl"}, "weight_decay", 0.1),
        ({"method": "proxsgd"}, "penalty", "nuclear"),
        ({"method": "linbreg"}, "init_density", 0.5),
        ({"method": "admm"}, "recurrent", True),
        (DELREC, "delay_lr", 0.1),
        ({"method": "gmp", "density": 0.1}, "recurrent", True),
    ],
)
def test_a_setting_that_does_something_is_taken(run, field, value):
    made = Experiment(**run | {field: value})
    assert getattr(made, field) == value
    assert Experiment.from_dict(made.to_dict()) == made


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("data", [*DATA_RECIPES, "my.h5"])
def test_what_is_recommended_is_taken(data, method):
    for density in (0.0, 0.1):
        if method in ("adam", "adamw", "linbreg", "proxsgd") if density else method in PRUNING:
            continue
        made = recipe(data, method, density=density)
        assert all(made.takes(name) for name in recommended(data, method, density=density))
    if method == "adam":
        assert not recipe("shd", method, network="delrec_shd").recurrent


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("method", "sgd", "one of adabreg"),
        ("schedule", "step", "one of cosine"),
        ("penalty", "l7", "one of"),
        ("init", "dense", "one of"),
        ("init_density", 0.0, r"\(0, 1\]"),
        ("penalty", "group_l1:kernels", "one for matrices"),
        ("threads", 100_000, r"in \[1, 1024\]"),
        ("epochs", 0, ">= 1"),
        ("batch_size", 0, ">= 1"),
        ("hidden", (), ">= 1"),
        ("hidden", (8, 0), ">= 1"),
        ("lr", -1.0, "> 0"),
        ("lr", float("nan"), "> 0"),
        ("clip", -1.0, ">= 0 and finite, 0 for none"),
        ("lam", -0.1, ">= 0"),
        ("density", 1.5, r"in \[0, 1\], 0 for none"),
        ("structure", "rows", "weights, neurons, or n:m"),
        ("cost", "energy", "one of none, synops"),
        ("l1", -1e-4, ">= 0"),
        ("decay", 1.5, r"in \[0, 1\]"),
        ("steps", -1, ">= 0"),
        ("seed", -1, ">= 0"),
        ("network", "delrec", "one of mlp, delrec_shd"),
        ("rounding", "never", "one of evaluation, training"),
        ("delay_schedule", "step", "one of cosine"),
        ("delay_lr", 0.0, "> 0"),
        ("weight_decay", -1e-3, ">= 0"),
        ("validation", 1.0, r"in \(0, 1\)"),
    ],
)
def test_a_bad_setting_is_named_before_any_work(field, value, allowed):
    with pytest.raises(ValueError, match=f"{field} must be.*{allowed}"):
        Experiment(**{field: value})


@pytest.mark.parametrize(
    ("field", "value", "wanted"),
    [
        ("epochs", 1.5, "an integer"),
        ("epochs", True, "an integer"),
        ("lr", "fast", "a number"),
        ("data", None, "a text"),
        ("recurrent", "yes", "true or false"),
        ("hidden", 8, "a tuple of integers"),
        ("hidden", (8, 2.5), "a tuple of integers"),
    ],
)
def test_a_setting_of_the_wrong_type_is_named(field, value, wanted):
    with pytest.raises(TypeError, match=f"{field} must be {wanted}, got"):
        Experiment(**{field: value})

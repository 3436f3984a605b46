"""Settings of a run: what is wrong with one is named before any work."""

import pytest

from bregma.runs.experiment import Experiment, recipe


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

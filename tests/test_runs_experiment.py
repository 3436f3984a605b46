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
        ("clip", 0.0, "> 0"),
        ("lam", -0.1, ">= 0"),
        ("density", 1.5, r"in \[0, 1\], 0 for none"),
        ("decay", 1.5, r"in \[0, 1\]"),
        ("steps", -1, ">= 0"),
        ("seed", -1, ">= 0"),
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

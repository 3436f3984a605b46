"""A small task and settings for tests of `ADMMClassifier`."""

import numpy as np

SMALL = {"solver": "paper", "hidden": (20,), "iterations": 40, "warming": 20, "measure_every": 20}


def spike_task(samples=36, steps=10, inputs=12, seed=0):
    """Three classes of which each fires most on its own third of the inputs; time-major bool frames, string labels."""
    rng = np.random.default_rng(seed)
    y = np.arange(samples) % 3
    rate = np.where(np.arange(inputs) // (inputs // 3) == y[:, None], 0.35, 0.04)
    return rng.random((steps, samples, inputs)) < rate, np.array(["ant", "bee", "cat"])[y]

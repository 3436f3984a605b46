"""One experiment: its settings, training loop, run folder, figures and report."""

"""One experiment: its settings, training loop and run folder."""

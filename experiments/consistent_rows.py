"""The rows of the study of the consistent solver: what `experiments/admm_consistent.py` trains, and how."""

from typing import Any

#: The methods' settings, each tuned on validation: see the rows whose name starts with "tune".
METHODS: dict[str, dict[str, Any]] = {
    "consistent": {
        "kind": "consistent",
        "batch": 256,
        "step": 0.05,
        "ridge": 0.1,
        "schedule": "linear",
        "readout": "mean",
        "readout_decay": 0.99,
    },
    "gradient": {
        "kind": "gradient",
        "batch": 128,
        "lr": 4e-3,
        "loss": "cross-entropy",
        "schedule": "cosine",
        "readout": "mean",
    },
    "control": {"kind": "control", "batch": 256, "readout": "mean"},
}

CONVOLUTIONS = [
    {"channels": 16, "kernel": 5, "stride": 2, "padding": 2},
    {"channels": 32, "kernel": 3, "stride": 2, "padding": 1},
]
NARROW = [{"channels": 16, "kernel": 5, "stride": 2}, {"channels": 32, "kernel": 3}]

#: Name of a row: hidden layers (neurons, or the options of a convolution or of a recurrent layer), CPU seconds of each
#: method, marks at which it is measured, and methods, each with what differs from its settings above. "data" names
#: spoken digits instead of N-MNIST.
ROWS: dict[str, dict[str, Any]] = {
    "tune-consistent": {
        "hidden": [256] * 3,
        "seconds": 20,
        "marks": [5, 20],
        "methods": {
            "consistent": {"readout": "last"},
            "consistent batch 128": {"readout": "last", "batch": 128},
            "consistent ridge 0.03": {"readout": "last", "ridge": 0.03},
            "consistent cross-entropy": {"readout": "last", "loss": "cross_entropy"},
            "consistent mean": {"readout": "mean"},
        },
    },
    "tune-both": {
        "hidden": [256] * 3,
        "seconds": 20,
        "marks": [5, 20],
        "methods": {
            "gradient mean": {"batch": 256},
            "gradient mean batch 128": {},
            "gradient mean squared": {"batch": 256, "loss": "squared"},
            "consistent mean batch 128": {"batch": 128},
            "consistent mean hinge": {"loss": "squared_hinge"},
            "consistent mean one-sided": {"rule": ("dithered", {"mirrored": False})},
        },
    },
    "tune-ridge": {
        "hidden": [256] * 3,
        "seconds": 48,
        "marks": [12, 24, 48],
        "methods": {f"consistent ridge {ridge:g}": {"ridge": ridge} for ridge in (0.1, 1.0, 10.0)},
    },
    "tune-window": {
        "hidden": [256] * 3,
        "seconds": 16,
        "marks": [16],
        "methods": {
            "consistent width 0.2": {"rule": ("window", {"width": 0.2})},
            "gradient slope 5": {"slope": 5.0},
            "gradient slope 10": {"slope": 10.0},
        },
    },
    "tune-gradient": {
        "hidden": [256] * 3,
        "seconds": 20,
        "marks": [5, 20],
        "methods": {
            "gradient lr 0.002": {"lr": 2e-3},
            "gradient lr 0.008": {"lr": 8e-3, "batch": 256},
        },
    },
    "depth3": {
        "hidden": [256] * 3,
        "seconds": 32,
        "marks": [2, 4, 8, 16, 32],
        "methods": {"consistent": {}, "gradient": {}},
    },
    "one-sided3": {
        "hidden": [256] * 3,
        "seconds": 32,
        "marks": [2, 4, 8, 16, 32],
        "methods": {"consistent one-sided": {"rule": ("dithered", {"mirrored": False})}},
    },
    "dithered3": {
        "hidden": [256] * 3,
        "seconds": 32,
        "marks": [2, 4, 8, 16, 32],
        "methods": {"consistent dithered": {"rule": ("dithered", {})}},
    },
    "control3": {"hidden": [256] * 3, "seconds": 4, "marks": [4], "methods": {"control": {}}},
    # 340 iterations are about what the time allows; the density falls to its value over the first half of them.
    "density3": {
        "hidden": [256] * 3,
        "seconds": 32,
        "marks": [2, 4, 8, 16, 32],
        "methods": {"consistent density 0.1": {"density": 0.1, "iterations": 340}},
    },
    "depth6": {
        "hidden": [256] * 6,
        "seconds": 32,
        "marks": [2, 4, 8, 16, 32],
        "methods": {"consistent": {}, "gradient": {}},
    },
    "dithered6": {
        "hidden": [256] * 6,
        "seconds": 32,
        "marks": [2, 4, 8, 16, 32],
        "methods": {"consistent dithered": {"rule": ("dithered", {})}},
    },
    "control6": {"hidden": [256] * 6, "seconds": 8, "marks": [8], "methods": {"control": {}}},
    "convolutional": {
        "hidden": CONVOLUTIONS,
        "seconds": 64,
        "marks": [8, 16, 32, 64],
        "methods": {"consistent": {"batch": 128}, "gradient": {}},
    },
    # What more time brings, and a larger ridge with it: see "tune-ridge".
    "depth3-long": {
        "hidden": [256] * 3,
        "seconds": 96,
        "marks": [8, 32, 64, 96],
        "methods": {
            "consistent": {"ridge": 1.0},
            "consistent density 0.1": {"ridge": 1.0, "density": 0.1, "iterations": 1000},
            "gradient": {},
        },
    },
    "density3-longer": {
        "hidden": [256] * 3,
        "seconds": 192,
        "marks": [48, 96, 192],
        "methods": {
            "consistent": {"ridge": 1.0},
            "consistent density 0.1": {"ridge": 1.0, "density": 0.1, "iterations": 2000},
        },
    },
    "dithered3-long": {
        "hidden": [256] * 3,
        "seconds": 96,
        "marks": [8, 32, 64, 96],
        "methods": {"consistent dithered": {"ridge": 1.0, "rule": ("dithered", {})}},
    },
    "convolutional-long": {
        "hidden": CONVOLUTIONS,
        "seconds": 320,
        "marks": [64, 160, 320],
        "methods": {"consistent": {"batch": 128}, "gradient": {}},
    },
    "tune-convolutional-gradient": {
        "hidden": CONVOLUTIONS,
        "seconds": 40,
        "marks": [20, 40],
        "methods": {
            "gradient": {},
            "gradient lr 0.008": {"lr": 8e-3},
            "gradient lr 0.008 batch 64": {"lr": 8e-3, "batch": 64},
            "gradient slope 5": {"slope": 5.0},
        },
    },
    "tune-convolutional-narrow": {
        "hidden": NARROW,
        "seconds": 40,
        "marks": [20, 40],
        "methods": {
            "consistent hinge": {"batch": 128, "loss": "squared_hinge"},
            "consistent squared error": {"batch": 128},
            "consistent hinge batch 64": {"batch": 64, "loss": "squared_hinge"},
            "gradient lr 0.008 batch 64": {"lr": 8e-3, "batch": 64},
            "gradient lr 0.008 batch 32": {"lr": 8e-3, "batch": 32},
            "gradient lr 0.004 batch 64": {"batch": 64},
            "gradient lr 0.004 batch 32": {"batch": 32},
        },
    },
    "convolutional-tuned": {
        "hidden": NARROW,
        "seconds": 120,
        "marks": [15, 30, 60, 120],
        "methods": {
            "consistent": {"batch": 128, "loss": "squared_hinge"},
            "gradient": {"batch": 32},
        },
    },
    "tune-speech": {
        "data": "shd_synth_train.h5.gz",
        "hidden": [{"neurons": 128}],
        "seconds": 8,
        "marks": [8],
        "methods": {
            "consistent": {"batch": 100, "readout_decay": 0.97},
            "gradient lr 0.001": {"batch": 100, "lr": 1e-3},
            "gradient lr 0.004": {"batch": 100, "lr": 4e-3},
            "gradient lr 0.01": {"batch": 100, "lr": 1e-2},
        },
    },
    "tune-speech-gradient": {
        "data": "shd_synth_train.h5.gz",
        "hidden": [{"neurons": 128}],
        "seconds": 8,
        "marks": [8],
        "methods": {
            "gradient lr 0.0005": {"batch": 100, "lr": 5e-4},
            "gradient lr 0.001 clip 0.3": {"batch": 100, "lr": 1e-3, "clip": 0.3},
            "gradient lr 0.003 clip 0.3": {"batch": 100, "lr": 3e-3, "clip": 0.3},
            "gradient lr 0.001 slope 10": {"batch": 100, "lr": 1e-3, "slope": 10.0},
            "gradient lr 0.003 slope 10": {"batch": 100, "lr": 3e-3, "slope": 10.0},
        },
    },
    "tune-speech-window": {
        "data": "shd_synth_train.h5.gz",
        "hidden": [{"neurons": 128}],
        "seconds": 8,
        "marks": [8],
        "methods": {
            "consistent width 0.2": {"batch": 100, "readout_decay": 0.97, "rule": ("window", {"width": 0.2})},
            "consistent width 0.1": {"batch": 100, "readout_decay": 0.97, "rule": ("window", {"width": 0.1})},
            "consistent ridge 1": {"batch": 100, "readout_decay": 0.97, "ridge": 1.0},
            "consistent readout ridge 0.1": {"batch": 100, "readout_decay": 0.97, "readout_ridge": 0.1},
            "consistent cross-entropy": {"batch": 100, "readout_decay": 0.97, "loss": "cross_entropy"},
            "consistent ridge 10": {"batch": 100, "readout_decay": 0.97, "ridge": 10.0},
            "consistent both ridges": {"batch": 100, "readout_decay": 0.97, "ridge": 1.0, "readout_ridge": 0.1},
        },
    },
    # What a spike's gain through its own layer counts (`Recurrent.feedback`).
    **{
        f"tune-speech-feedback-{share}": {
            "data": "shd_synth_train.h5.gz",
            "hidden": [{"neurons": 128, "feedback": share}],
            "seconds": 8,
            "marks": [8],
            "methods": {"consistent": {"batch": 100, "readout_decay": 0.97, "ridge": 10.0}},
        }
        for share in (0.1, 0.3, 1.0)
    },
    "speech": {
        "data": "shd_synth_train.h5.gz",
        "hidden": [{"neurons": 128}],
        "seconds": 8,
        "marks": [2, 4, 8],
        "methods": {
            "consistent": {"batch": 100, "readout_decay": 0.97, "ridge": 10.0},
            "gradient": {"batch": 100, "lr": 3e-3, "slope": 10.0},
        },
    },
}

"""Settings that differ from the defaults of `bregma.runs.experiment.Experiment` where a data set or method is named."""

from typing import Any

from bregma.runs.admm_settings import ADMMSettings, SolverName
from bregma.runs.uses import ADMM_FIELDS, Kind

#: What differs from the defaults of `Experiment` for a method. The steps of the last two are not those of Adam, and the
#: threshold of ``proxsgd`` is ``lr * lam``.
METHOD_RECIPES: dict[str, dict[str, Any]] = {
    "linbreg": {"lr": 2.0, "lam": 0.2},
    "proxsgd": {"lr": 0.3, "lam": 1e-3},
    "admm": {"decay": 0.95},
}

#: What differs for a network of DelRec, as in arXiv 2603.16462: dense at first, and lam of AdaBreg.
DELREC_RECIPE: dict[str, Any] = {"init": "anchored", "lam": 0.1}

#: What differs where a density is named: few weights take larger steps.
DENSITY_RECIPE: dict[str, Any] = {"lr": 2e-2}

#: What differs for a data set; a folder or file by path is taken as ``shd``.
DATA_RECIPES: dict[str, dict[str, Any]] = {
    "digits": {"shift": 1},
    "mnist": {"hidden": (128,), "recurrent": True, "epochs": 10, "batch_size": 128},
    "psmnist": {"hidden": (64, 212, 212), "recurrent": True, "epochs": 20, "batch_size": 128},
    "nmnist": {"hidden": (512,), "epochs": 20, "batch_size": 64},
    "shd": {"hidden": (256, 256), "recurrent": True, "epochs": 50, "batch_size": 128},
    "ssc": {"hidden": (256, 256, 256), "recurrent": True, "epochs": 50, "batch_size": 128},
}

#: What a sweep does otherwise than a single run on the same data.
SWEEP_RECIPES: dict[str, dict[str, Any]] = {"digits": {"epochs": 10}}  # so that it ends in a few minutes

#: What differs for a data set with the method admm, by its solver, beside those of the fields above that it takes.
ADMM_RECIPES: dict[str, dict[str, dict[str, Any]]] = {
    "consistent": {
        "digits": {"admm": ADMMSettings(iterations=520, batch_size=100, readout="mean")},
        "mnist": {"admm": ADMMSettings(iterations=2700)},
        "nmnist": {"admm": ADMMSettings(iterations=2700)},
        "shd": {"admm": ADMMSettings(iterations=1100, readout="mean")},
    },
    "paper": {
        "digits": {"admm": ADMMSettings(solver="paper", iterations=300, warming=100)},
    },
}


def recommended(
    data: str = "digits", method: str = "adabreg", solver: SolverName = "consistent", **given: Any
) -> dict[str, Any]:
    """What is recommended for a data set and a method, and these two; `bregma.runs.experiment.recipe` starts from it.

    Args:
        data: see `bregma.runs.experiment.Experiment`.
        method: see there.
        solver: of the method admm, unless ``admm`` is given.
        **given: fields of it; those that change what is recommended are looked at, unchecked.

    Example:
        >>> recommended("shd", "adam", network="delrec_shd")["hidden"], "recurrent" in recommended("shd", "admm")
        ((256, 256), False)
    """
    own = {} if given.get("network", "mlp") == "mlp" else DELREC_RECIPE
    own = {**own, **METHOD_RECIPES.get(method, {}), **DATA_RECIPES.get(data, DATA_RECIPES["shd"])}
    if given.get("density"):
        own |= DENSITY_RECIPE
    if method == "admm":
        admm = given.get("admm", ADMMSettings(solver=solver))
        own = {name: value for name, value in own.items() if name in ADMM_FIELDS} | {"admm": admm}
        own |= ADMM_RECIPES.get(admm.solver, {}).get(data if data in DATA_RECIPES else "shd", {})
    own |= {"data": data, "method": method}
    return Kind.of({**own, **given}).used(own)

"""Settings in TOML files: those that come with this package, by name, and anybody's own, by path."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from bregma.runs.admm_settings import ADMMSettings
from bregma.runs.experiment import Experiment, recipe
from bregma.runs.texts import read_toml
from bregma.runs.uses import Kind

FOLDER = Path(__file__).parent / "configs"
_BESIDE = {"format", "experiment", "network", "data", "environment"}  # tables of the config.toml of a run


def recipe_names() -> list[str]:
    """Names of the files that come with this package.

    Example:
        >>> recipe_names()
        ['delrec_psmnist', 'delrec_shd', 'delrec_ssc']
    """
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def read_recipe(name_or_path: str | Path) -> dict[str, Any]:
    """Fields of `Experiment` from a TOML file, or from the ``config.toml`` of a run.

    Args:
        name_or_path: a name of `recipe_names`, or a path. A name wins over a file of that name: write "./name".

    Returns:
        The fields that the file names; lists as tuples.

    Raises:
        FileNotFoundError: there is neither such a recipe nor such a file.
        ValueError: the file is no TOML, it names a field that there is not or that its run would not look at, or a
            value that is not allowed.

    Example:
        >>> read_recipe("delrec_psmnist")["delay_lr"]
        0.05
    """
    path = FOLDER / f"{name_or_path}.toml" if str(name_or_path) in recipe_names() else Path(name_or_path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"config must be one of {', '.join(recipe_names())} or a TOML file, got {str(name_or_path)!r}"
        )
    document = read_toml(path)
    fields = document
    if isinstance(document.get("experiment"), dict):  # the config.toml of a run, or part of one
        fields = document["experiment"]
        if other := sorted(set(document) - _BESIDE):
            raise ValueError(f"{path}: {other[0]!r} stands beside [experiment], where nothing reads it; move it inside")
    known = {field.name for field in dataclasses.fields(Experiment)}
    if unknown := sorted(set(fields) - known):
        raise ValueError(f"{path}: experiment has no field {unknown[0]!r}; known are {', '.join(sorted(known))}")
    values: dict[str, Any] = {}
    for name, value in fields.items():
        values[name] = tuple(value) if isinstance(value, list) else value
    try:
        if isinstance(values.get("admm"), dict):
            values["admm"] = ADMMSettings.from_dict(values["admm"])
        if "format" in document:  # of a run: former versions wrote down what the run did not look at
            values = Kind.of(values).used(values)
        recipe(**values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    return values

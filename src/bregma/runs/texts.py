"""Reading the text files of runs and sweeps: TOML and JSON, or one line that says what is wrong with which."""

import json
from pathlib import Path
from typing import Any

import tomlkit


def read_toml(path: Path) -> dict[str, Any]:
    """What a TOML file says.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no TOML.
    """
    try:
        document: dict[str, Any] = tomlkit.parse(path.read_text(encoding="utf-8")).unwrap()
    except (ValueError, RecursionError, tomlkit.exceptions.TOMLKitError) as error:  # or not even UTF-8
        raise ValueError(f"{path}: not a readable TOML file ({' '.join(str(error).split())})") from error
    return document


def read_json(path: Path, text: bytes, line: int | None = None) -> dict[str, Any]:
    """What a file or a line of it says, an object.

    Raises:
        ValueError: it is no JSON, or no object.
    """
    where = f"{path}: " if line is None else f"{path}: line {line}: "
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:  # bad JSON, or not even UTF-8
        raise ValueError(f"{where}not readable JSON ({error})") from error
    if not isinstance(values, dict):
        raise ValueError(f"{where}expected an object, got {type(values).__name__}")
    return values

"""Libraries that not everyone has."""

from __future__ import annotations

import importlib
from typing import Any


def library(name: str, extra: str) -> Any:
    """Import a library, or say how to get it.

    Args:
        name: what to import.
        extra: the extra of bregma that brings it.

    Raises:
        ImportError: it is not installed.

    Example:
        >>> library("json", "none").loads("1")
        1
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ImportError(missing(name, extra)) from error


def missing(name: str, extra: str) -> str:
    """What to say of a library that is not installed.

    Example:
        >>> missing("nir", "nir")
        "nir is not installed: pip install 'bregma[nir]', or in a clone pip install -e '.[nir]'"
    """
    return f"{name} is not installed: pip install 'bregma[{extra}]', or in a clone pip install -e '.[{extra}]'"

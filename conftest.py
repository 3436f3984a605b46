"""What pytest collects, and from which seed every test draws."""

from importlib.util import find_spec
from zlib import crc32

import pytest
import torch
from hypothesis import settings

# The examples in all docstrings, but for files that need a library that is not here.
collect_ignore = [] if find_spec("flwr") else ["src/bregma/interop/flower.py"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--seed``."""
    parser.addoption("--seed", type=int, help="draw other random numbers and hypothesis examples than CI does")


def pytest_configure(config: pytest.Config) -> None:
    """Without --seed a run repeats the last one: what CI refuses fails here too."""
    settings.register_profile("repeatable", derandomize=True)
    if config.getoption("seed") is None:
        settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def seeded(request: pytest.FixtureRequest) -> None:
    """A test draws the same numbers alone, after others, and in every run."""
    torch.manual_seed(crc32(request.node.nodeid.encode()) + (request.config.getoption("seed") or 0))

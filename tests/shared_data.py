"""Where the tests find the larger real files: BREGMA_TEST_DATA, or the folder shared/data beside the checkout."""

import os
from pathlib import Path

import pytest

FIXTURES = Path(__file__).parent / "fixtures"
SHARED = Path(os.environ.get("BREGMA_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data")


def shared(name: str) -> Path:
    """A file of the shared folder; the test skips where it is absent."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"needs {name} in the folder BREGMA_TEST_DATA or ../shared/data")
    return path

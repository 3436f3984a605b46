"""One thread: the tests are small, and threads that wait for each other cost more than they bring."""

import pytest
import torch
from tiny_runs import tiny_frames

from bregma.data import Splits

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def splits() -> Splits:
    return Splits(tiny_frames(70, 0), tiny_frames(20, 1), tiny_frames(30, 2), "tiny", "tiny thirds", synthetic=True)

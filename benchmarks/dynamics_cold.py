"""What only a new process can tell: peak memory and the time of the first call."""

import subprocess
import sys
from pathlib import Path

_FIRST_CALL = """
import time, torch
torch.ones(2, 2) @ torch.ones(2, 2)
start = time.process_time()
import bregma
from bregma.nn import RecurrentLIF, SpikeLinear
x = SpikeLinear(8, 4)(torch.ones(3, 2, 8))
RecurrentLIF(4)(x)[0].sum().backward()
print(time.process_time() - start)
"""


def _lines(*arguments: str) -> list[str]:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def first_call_seconds() -> float:
    """CPU seconds from an imported torch to the first gradient, import of this package included."""
    return float(_lines("-W", "ignore", "-c", _FIRST_CALL)[-1])


def peak_bytes(network: str) -> float:
    """Highest resident memory of a training step on PSMNIST-like work, above that just before."""
    return float(_lines("-W", "ignore", str(Path(__file__)), network)[-1])


def _measure(network: str) -> None:
    import torch
    from dynamics_networks import PEERS, PSMNIST, Ours, train

    torch.set_num_threads(1)
    net = Ours if network == "Ours" else PEERS[network]
    train(net(small := PSMNIST.short()), small.frames())()  # everything is imported, compiled and loaded
    step = train(net(PSMNIST), PSMNIST.frames())
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = _status("VmRSS")
    step()
    print(_status("VmHWM") - before)


def _status(field: str) -> int:
    """Bytes that Linux reports of this process; getrusage would include the parent's peak."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


if __name__ == "__main__":
    _measure(sys.argv[1])

"""The backward sweep of the consistent solver fused for the CPU: displacement and reverse filter in one pass.

Same numbers as `bregma.admm.targets` and `bregma.admm.traces` up to rounding. Arrays are C-contiguous and time-major;
a gain ``g`` of one time step serves all of them, each with its factor ``kappa[t]``.
"""

from bregma.dynamics.kernels import Array, loose_kernel


@loose_kernel
def reverse_window(
    g: Array, kappa: Array, z: Array, threshold: float, width: float, decay: float, out: Array, first: int, last: int
) -> None:
    """``out = F^T (kappa g / (1 + |z - threshold| / width)^2)`` for samples ``first`` to ``last``."""
    one = z.dtype.type(1)
    threshold, decay, steepness = z.dtype.type(threshold), z.dtype.type(decay), z.dtype.type(1 / width)
    steps, _, n = z.shape
    for t in range(steps - 1, -1, -1):
        row, factor, keep = min(t, len(g) - 1), kappa[t], decay if t < steps - 1 else decay * 0
        for b in range(first, last):
            gain, membrane, later, target = g[row, b], z[t, b], out[min(t + 1, steps - 1), b], out[t, b]
            if t == steps - 1:
                for j in range(n):
                    target[j] = 0
            for j in range(n):
                far = one + abs(membrane[j] - threshold) * steepness
                target[j] = keep * later[j] + factor * gain[j] / (far * far)


@loose_kernel
def reverse_displaced(
    g: Array, kappa: Array, z: Array, threshold: float, margin: float, soften: float, up: float, down: float,
    graded: bool, mirrored: bool, decay: float, out: Array, first: int, last: int,
) -> None:  # fmt: skip
    """``out = F^T`` of the moves to the threshold and ``margin`` beyond that pay; see `bregma.admm.targets`."""
    zero, one = z.dtype.type(0), z.dtype.type(1)
    threshold, decay, margin = z.dtype.type(threshold), z.dtype.type(decay), z.dtype.type(margin)
    soften, up, down = z.dtype.type(soften), z.dtype.type(up), z.dtype.type(down)
    steps, _, n = z.shape
    for t in range(steps - 1, -1, -1):
        row, factor, keep = min(t, len(g) - 1), kappa[t], decay if t < steps - 1 else decay * 0
        for b in range(first, last):
            gain, membrane, later, target = g[row, b], z[t, b], out[min(t + 1, steps - 1), b], out[t, b]
            if t == steps - 1:
                for j in range(n):
                    target[j] = 0
            for j in range(n):
                pull = factor * gain[j]
                rises = pull > zero
                d = threshold - membrane[j]
                if mirrored:
                    d = abs(d) if rises else -abs(d)
                d += margin if rises else -margin
                u = abs(pull) / (d * d + soften)
                cut = up if rises else down
                share = min(one, u / cut) if graded else (one if u > cut else zero)
                pays = (pull != zero) & ((d > zero) == rises)
                target[j] = keep * later[j] + (d * share if pays else zero)


@loose_kernel
def reverse_filter(x: Array, decay: float, out: Array, first: int, last: int) -> None:
    """``out[t] = x[t] + decay * out[t + 1]`` for samples ``first`` to ``last``; in place if ``out`` is ``x``."""
    decay = x.dtype.type(decay)
    steps, _, n = x.shape
    for b in range(first, last):
        for j in range(n):
            out[steps - 1, b, j] = x[steps - 1, b, j]
    for t in range(steps - 2, -1, -1):
        for b in range(first, last):
            source, later, target = x[t, b], out[t + 1, b], out[t, b]
            for j in range(n):
                target[j] = source[j] + decay * later[j]


@loose_kernel
def forward_filter(x: Array, decay: float, out: Array, first: int, last: int) -> None:
    """``out[t] = x[t] + decay * out[t - 1]`` for samples ``first`` to ``last``; in place if ``out`` is ``x``."""
    decay = x.dtype.type(decay)
    steps, _, n = x.shape
    for b in range(first, last):
        for j in range(n):
            out[0, b, j] = x[0, b, j]
    for t in range(1, steps):
        for b in range(first, last):
            source, former, target = x[t, b], out[t - 1, b], out[t, b]
            for j in range(n):
                target[j] = source[j] + decay * former[j]

"""The sweeps over membranes and spikes fused for the CPU: one pass over memory each, in place of a dozen.

Same numbers as `bregma.admm.updates` up to rounding. Arrays are C-contiguous, time-major, float32 or float64.
"""

import numpy as np

from bregma.dynamics.kernels import Array, kernel


@kernel
def one_step_sums(z: Array, a: Array, decay: float, threshold: float, out: Array) -> None:
    """``out[t] = z[t] - decay * z[t-1] + threshold * a[t-1]``; all (T, N)."""
    decay, threshold = z.dtype.type(decay), z.dtype.type(threshold)
    steps, size = z.shape
    for i in range(size):
        out[0, i] = z[0, i]
    for t in range(1, steps):
        for i in range(size):
            out[t, i] = z[t, i] - decay * z[t - 1, i] + threshold * a[t - 1, i]


@kernel
def hidden_wave(
    z: Array, a: Array, p: Array, feedback: Array, m: Array, steps: Array, constants: Array, product: Array
) -> None:
    """Eq. (6), Algorithm 1 and the right-hand side of Eq. (8) for the steps of one wave.

    Args:
        z: membranes (T, N), written at ``steps``.
        a: spikes (T, N).
        p: drive ``W a - d`` (T, N).
        feedback: ``rho * (v + d) @ W`` of the next layer (T, N).
        m: multiplier of ``a - H(z)`` over sigma (T, N), or a single row of zeros (1, N).
        steps: time steps of the wave (K,), no two of them neighbours.
        constants: rho, sigma, decay, threshold, epsilon, in the dtype of the arrays.
        product: where the right-hand sides go (K, N).
    """
    one, zero = z.dtype.type(1), z.dtype.type(0)
    half = z.dtype.type(0.5)
    rho, sigma, decay, threshold, epsilon = constants
    raised = threshold + epsilon
    last, size = z.shape[0] - 1, z.shape[1]
    for k in range(len(steps)):
        t = steps[k]
        row = t if len(m) > 1 else 0
        before, after = max(t - 1, 0), min(t + 1, last)
        leads, follows = (one if t > 0 else zero), (one if t < last else zero)
        scale = one / (one + follows * decay * decay)
        for i in range(size):
            now = a[t, i]
            q = p[t, i] + leads * (decay * z[before, i] - threshold * a[before, i])
            ahead = follows * (z[after, i] - p[after, i])
            goal = ahead + follows * threshold * now
            best = (q + decay * goal) * scale
            shift = m[row, i]
            wish = now + shift
            silent_cost = half * sigma * wish * wish
            firing_cost = half * sigma * (wish - one) * (wish - one)
            fires = best > threshold
            other = threshold if fires else raised
            here = best - q
            there = decay * best - goal
            cost = half * rho * (here * here + follows * there * there) + (firing_cost if fires else silent_cost)
            here = other - q
            there = decay * other - goal
            other_cost = half * rho * (here * here + follows * there * there) + (silent_cost if fires else firing_cost)
            crosses = other_cost <= cost if fires else other_cost < cost
            new = other if crosses else best
            z[t, i] = new
            w = ahead - follows * decay * new
            product[k, i] = feedback[t, i] - rho * threshold * w + sigma * ((one if new > threshold else zero) - shift)


@kernel
def clip_into(a: Array, steps: Array, new: Array) -> None:
    """``a[steps] = new`` clipped to [0, 1]; a is (T, N), new (K, N)."""
    one, zero = a.dtype.type(1), a.dtype.type(0)
    for k in range(len(steps)):
        t = steps[k]
        for i in range(a.shape[1]):
            a[t, i] = min(max(new[k, i], zero), one)


@kernel
def event_lists(x: Array, indptr: Array) -> Array:
    """The columns of the non-zero entries of ``x`` (rows, n), row by row; ``indptr`` (rows + 1,) is filled."""
    for row in range(x.shape[0]):
        indptr[row + 1] = indptr[row] + np.count_nonzero(x[row])
    index = np.empty(indptr[-1], dtype=np.int32)
    k = 0
    for row in range(x.shape[0]):
        for i in range(x.shape[1]):
            if x[row, i] != 0:
                index[k] = i
                k += 1
    return index


@kernel
def event_gram(indptr: Array, index: Array, gram: Array) -> None:
    """Add 1 to ``gram`` (n, n) for every pair of events of a row."""
    for row in range(len(indptr) - 1):
        for i in index[indptr[row] : indptr[row + 1]]:
            for j in index[indptr[row] : indptr[row + 1]]:
                gram[i, j] += 1


@kernel
def event_drive(indptr: Array, index: Array, weight: Array, out: Array) -> None:
    """``out[row] = sum of weight[i] over the events i of the row``; weight (n, m), out (rows, m)."""
    for row in range(len(indptr) - 1):
        line = out[row]
        line[:] = 0
        for i in index[indptr[row] : indptr[row + 1]]:
            column = weight[i]
            for j in range(len(line)):
                line[j] += column[j]


@kernel
def event_correlation(indptr: Array, index: Array, sums: Array, out: Array) -> None:
    """``out[i] += sums[row]`` for every event i of every row; sums (rows, m), out (n, m) zeros."""
    for row in range(len(indptr) - 1):
        line = sums[row]
        for i in index[indptr[row] : indptr[row + 1]]:
            target = out[i]
            for j in range(len(line)):
                target[j] += line[j]

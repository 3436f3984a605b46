"""The LIF recurrence and its backward pass, one scalar at a time in float64: the oracle of every LIF in bregma.

Forward, with z the membrane before reset and s the spikes::

    s[t] = 1 if z[t] > threshold (strict) or z[t] >= threshold (not strict), else 0
    z[t] = f(z[t-1], s[t-1]) + current[t] + sum_j weight[i, j] s[t-1, j]

Backward, derived by hand. With a = dL/dz and b = dL/ds, g the surrogate derivative::

    b[t] = dL/d(output spike) + df/ds a[t+1] (0 if the reset is detached) + sum_i weight[i, j] a[t+1, i]
    a[t] = b[t] g(z[t] - threshold) + df/dz a[t+1]          (a[T] = 0; the last a also takes dL/d(last membrane))
"""

import math
from dataclasses import dataclass

import numpy as np


def atan(x: float, alpha: float = 2.0) -> float:
    return alpha / (2 + 2 * (math.pi * alpha * x / 2) ** 2)


def triangle(x: float, width: float = 1.0) -> float:
    return (1 - abs(x) / width) / width if abs(x) < width else 0.0


def fast_sigmoid(x: float, slope: float = 25.0) -> float:
    return (1 + slope * abs(x)) ** -2


def box(x: float, width: float = 1.0) -> float:
    return 1 / width if -width / 2 < x < width / 2 else 0.0


def leak(reset, z, s, decay, threshold):
    """f, df/dz, df/ds, df/ddecay, df/dthreshold of one neuron."""
    if reset == "subtract":
        return decay * z - threshold * s, decay, -threshold, z, -s
    if reset == "subtract_decayed":
        return decay * (z - threshold * s), decay, -decay * threshold, z - threshold * s, -decay * s
    if reset == "zero":
        return decay * z * (1 - s), decay * (1 - s), -decay * z, z * (1 - s), 0.0
    assert reset == "none"
    return decay * z, decay, 0.0, z, 0.0


@dataclass
class Result:
    spikes: np.ndarray
    membrane: np.ndarray
    current: np.ndarray
    weight: np.ndarray
    state: np.ndarray
    decay: np.ndarray
    threshold: np.ndarray


def lif(
    current, weight, decay, threshold, state, grad_spikes, grad_membrane, *, reset, strict, detach_reset, surrogate
):
    """Spikes (T, B, n), last membrane (B, n) and the gradients of ``sum(spikes * grad_spikes) + sum(membrane * ...)``.

    weight (n, n) or None, decay and threshold (n,), state (B, n) or None (at rest), surrogate a function of a float.
    """
    steps, batch, n = current.shape
    recurrent = weight is not None
    z = np.zeros((steps + 1, batch, n))  # z[0] is the state, z[t + 1] the membrane of step t
    s = np.zeros((steps + 1, batch, n))
    if state is not None:
        z[0] = state
        for k in range(batch):
            for i in range(n):
                s[0, k, i] = fires(z[0, k, i], threshold[i], strict)
    for t in range(1, steps + 1):
        for k in range(batch):
            for i in range(n):
                heard = sum(weight[i, j] * s[t - 1, k, j] for j in range(n)) if recurrent else 0.0
                kept = leak(reset, z[t - 1, k, i], s[t - 1, k, i], decay[i], threshold[i])[0]
                z[t, k, i] = kept + (current[t - 1, k, i] + heard)
                s[t, k, i] = fires(z[t, k, i], threshold[i], strict)

    grads = Result(
        s[1:], z[-1], np.zeros_like(current), np.zeros((n, n)), np.zeros((batch, n)), np.zeros(n), np.zeros(n)
    )
    a = np.zeros((steps + 2, batch, n))
    for t in range(steps, -1, -1):
        for k in range(batch):
            for i in range(n):
                _, dz, ds, ddecay, dthreshold = leak(reset, z[t, k, i], s[t, k, i], decay[i], threshold[i])
                later = a[t + 1, k, i]
                b = 0.0 if detach_reset else ds * later
                b += grad_spikes[t - 1, k, i] if t > 0 else 0.0
                if recurrent:
                    b += sum(weight[j, i] * a[t + 1, k, j] for j in range(n))
                g = surrogate(z[t, k, i] - threshold[i]) if t > 0 or state is not None else 0.0
                a[t, k, i] = b * g + dz * later + (grad_membrane[k, i] if t == steps else 0.0)
                grads.decay[i] += ddecay * later
                grads.threshold[i] += dthreshold * later - b * g
                if recurrent:
                    for j in range(n):
                        grads.weight[j, i] += a[t + 1, k, j] * s[t, k, i]
    grads.current[:] = a[1:-1]
    grads.state[:] = a[0]
    return grads


def fires(z, threshold, strict):
    return float(z > threshold if strict else z >= threshold)

"""The update equations of the papers, line by line, in float64 NumPy. Slow and plain on purpose: these are oracles.

LinBreg, AdaBreg: L. Bungert, T. Roith, D. Tenbrinck, M. Burger, "A Bregman learning framework for sparse neural
networks", JMLR 2022, arXiv 2105.04319, Algorithms 1 to 3. ProxSGD: its Section 2 and Parikh, Boyd 2014, Section 4.2.
Every function takes the first weights and the gradients g_1 ... g_T and returns all weights theta_1 ... theta_T.
"""

import math
from collections.abc import Callable

import numpy as np

Array = np.ndarray
Prox = Callable[[Array, float], Array]


def soft(x: Array, threshold: float) -> Array:
    return np.sign(x) * np.maximum(np.abs(x) - threshold, 0.0)


def prox_none(x: Array, step: float) -> Array:
    return x.copy()


def prox_l1(x: Array, step: float) -> Array:
    return soft(x, step)


def prox_nonneg_l1(x: Array, step: float) -> Array:
    return np.maximum(x - step, 0.0)


def prox_elastic_net(x: Array, step: float) -> Array:
    return soft(x, step) / (1.0 + step)


def prox_rows(x: Array, step: float) -> Array:
    out = np.zeros_like(x)
    for i in range(x.shape[0]):
        norm, weight = math.sqrt(float((x[i] ** 2).sum())), math.sqrt(x[i].size)
        if norm > step * weight:
            out[i] = (1.0 - step * weight / norm) * x[i]
    return out


def prox_columns(x: Array, step: float) -> Array:
    return np.swapaxes(prox_rows(np.swapaxes(x, 0, 1), step), 0, 1)


def prox_kernels(x: Array, step: float) -> Array:
    return prox_rows(x.reshape(x.shape[0] * x.shape[1], -1), step).reshape(x.shape)


def prox_nuclear(x: Array, step: float) -> Array:
    u, s, vt = np.linalg.svd(x.reshape(x.shape[0], -1), full_matrices=False)
    return (u @ np.diag(np.maximum(s - step, 0.0)) @ vt).reshape(x.shape)


def subgradient_none(x: Array) -> Array:
    return np.zeros_like(x)


def subgradient_l1(x: Array) -> Array:
    return np.sign(x)


def subgradient_nonneg_l1(x: Array) -> Array:
    return np.where(x > 0, 1.0, 0.0)


def subgradient_elastic_net(x: Array) -> Array:
    return np.sign(x) + x


def subgradient_rows(x: Array) -> Array:
    out = np.zeros_like(x)
    for i in range(x.shape[0]):
        norm = math.sqrt(float((x[i] ** 2).sum()))
        if norm > 0:
            out[i] = math.sqrt(x[i].size) * x[i] / norm
    return out


def subgradient_columns(x: Array) -> Array:
    return np.swapaxes(subgradient_rows(np.swapaxes(x, 0, 1)), 0, 1)


def subgradient_kernels(x: Array) -> Array:
    return subgradient_rows(x.reshape(x.shape[0] * x.shape[1], -1)).reshape(x.shape)


def subgradient_nuclear(x: Array) -> Array:
    u, s, vt = np.linalg.svd(x.reshape(x.shape[0], -1), full_matrices=False)
    rank = int((s > 1e-12).sum())
    return (u[:, :rank] @ vt[:rank]).reshape(x.shape)


PENALTIES: dict[str, tuple[Prox, Callable[[Array], Array]]] = {
    "none": (prox_none, subgradient_none),
    "l1": (prox_l1, subgradient_l1),
    "nonneg_l1": (prox_nonneg_l1, subgradient_nonneg_l1),
    "elastic_net": (prox_elastic_net, subgradient_elastic_net),
    "group_l1:rows": (prox_rows, subgradient_rows),
    "group_l1:channels": (prox_rows, subgradient_rows),
    "group_l1:columns": (prox_columns, subgradient_columns),
    "group_l1:kernels": (prox_kernels, subgradient_kernels),
    "nuclear": (prox_nuclear, subgradient_nuclear),
}


def linbreg(
    theta: Array,
    gradients: list[Array],
    *,
    lr: float,
    momentum: float,
    lam: float,
    delta: float,
    penalty: str,
    init: str = "anchored",
) -> list[Array]:
    prox, subgradient = PENALTIES[penalty]
    v = theta / delta + (lam * subgradient(theta) if init == "anchored" else 0.0)
    m = np.zeros_like(theta)
    history = []
    for g in gradients:
        m = momentum * m + (1.0 - momentum) * lr * g  # the paper's form, lr inside: the same at a constant lr
        v = v - m
        theta = prox(delta * v, delta * lam)
        history.append(theta)
    return history


def adabreg(
    theta: Array,
    gradients: list[Array],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    lam: float,
    delta: float,
    penalty: str,
    init: str = "anchored",
) -> list[Array]:
    prox, subgradient = PENALTIES[penalty]
    beta1, beta2 = betas
    v = theta / delta + (lam * subgradient(theta) if init == "anchored" else 0.0)
    m = np.zeros_like(theta)
    s = np.zeros_like(theta)
    history = []
    for t, g in enumerate(gradients, start=1):
        m = beta1 * m + (1.0 - beta1) * g
        s = beta2 * s + (1.0 - beta2) * g * g
        m_hat = m / (1.0 - beta1**t)
        s_hat = s / (1.0 - beta2**t)
        v = v - lr * m_hat / (np.sqrt(s_hat) + eps)
        theta = prox(delta * v, delta * lam)
        history.append(theta)
    return history


def proxsgd(
    theta: Array, gradients: list[Array], *, lr: float, momentum: float, lam: float, penalty: str
) -> list[Array]:
    prox, _ = PENALTIES[penalty]
    m = np.zeros_like(theta)
    history = []
    for g in gradients:
        m = momentum * m + g
        theta = prox(theta - lr * m, lr * lam)
        history.append(theta)
    return history

"""Algorithm 2 of arXiv 2505.05527, line by line: columns are samples, l = 1 ... L and t = 1 ... T as printed.

Nothing is shared, batched or kept: the inverse of Eq. (8) is formed for every layer and time step and every product
with W where a formula mentions it, as an implementer of the page would. The one addition is ``ridge``, without which
the inverse of Eq. (4) does not exist when an input never fires.

Two misprints are read as meant: H(z_l,t) of Eq. (9) is H(z_L-1,t), and v and u carry the reset of their own layer.
"""

# ruff: noqa: E741

from dataclasses import dataclass, field

import torch


@dataclass
class Paper:
    x: dict  # t -> (n_0, M)
    y: torch.Tensor  # (n_L, M)
    W: dict  # l -> (n_l, n_l-1)
    z: dict  # (l, t) -> (n_l, M)
    a: dict = field(default_factory=dict)  # (l, t) -> (n_l, M), also (0, t)
    lam: torch.Tensor = None  # (n_L, M)
    rho: float = 1.0
    sigma: float = 0.1
    delta: float = 0.95
    theta: float = 1.0
    epsilon: float = 1e-3
    ridge: float = 0.0

    def __post_init__(self):
        self.L, self.T = max(self.W), max(self.x)
        self.a.update({(0, t): value for t, value in self.x.items()})

    # Sect. 4.2 and 4.3: the auxiliary vectors at one time step
    def p(self, l, t):
        return self.W[l] @ self.a[l - 1, t]

    def s(self, l, t):
        return self.p(l, t) + (self.delta * self.z[l, t - 1] if t > 1 else 0)

    def q(self, l, t):
        return self.s(l, t) - (self.theta * self.a[l, t - 1] if t > 1 else 0)

    def r(self, l, t):
        return -self.p(l, t) + self.z[l, t]

    def u(self, l, t):
        return self.z[l, t] - (self.delta * self.z[l, t - 1] if t > 1 else 0)

    def v(self, l, t):
        return self.u(l, t) + (self.theta * self.a[l, t - 1] if t > 1 else 0)

    def w(self, l, t):
        return self.u(l, t) - self.p(l, t)

    def H(self, z):
        return (z > self.theta).to(z.dtype)

    def eq4(self, l):
        gram = sum(self.a[l - 1, t] @ self.a[l - 1, t].T for t in range(1, self.T + 1))
        gram += self.ridge * torch.eye(len(gram), dtype=gram.dtype)
        product = sum(self.v(l, t) @ self.a[l - 1, t].T for t in range(1, self.T + 1))  # x_l is v_l
        self.W[l] = product @ torch.linalg.inv(gram)

    def eq5(self):
        L, T = self.L, self.T
        gram = sum(self.a[L - 1, t] @ self.a[L - 1, t].T for t in range(1, T + 1))
        gram += self.ridge * torch.eye(len(gram), dtype=gram.dtype)
        product = self.lam @ self.a[L - 1, T].T / self.rho
        product = product + sum(self.u(L, t) @ self.a[L - 1, t].T for t in range(1, T + 1))
        self.W[L] = product @ torch.linalg.inv(gram)

    def eq6(self, l, t):
        if t == self.T:
            return self.q(l, t)
        return (self.q(l, t) + self.delta * (self.r(l, t + 1) + self.theta * self.a[l, t])) / (1 + self.delta**2)

    def cost(self, l, t, z):
        """The terms of Eq. (2) that hold z_l,t, entry by entry."""
        total = self.rho / 2 * (z - self.q(l, t)) ** 2 + self.sigma / 2 * (self.a[l, t] - self.H(z)) ** 2
        if t < self.T:
            ahead = self.z[l, t + 1] - self.delta * z - self.p(l, t + 1) + self.theta * self.a[l, t]
            total = total + self.rho / 2 * ahead**2
        return total

    def algorithm1(self, l, t, z):
        theta, epsilon = torch.full_like(z, self.theta), torch.full_like(z, self.theta + self.epsilon)
        cost = self.cost(l, t, z)
        down = (z > self.theta) & (self.cost(l, t, theta) <= cost)
        up = (z <= self.theta) & (self.cost(l, t, epsilon) < cost)
        return torch.where(down, theta, torch.where(up, epsilon, z))

    def eq7(self, t):
        L, rho, delta = self.L, self.rho, self.delta
        if t == self.T:
            return (rho * self.s(L, t) + 2 * self.y - self.lam) / (rho + 2)
        numerator = rho * self.s(L, t) + rho * delta * self.r(L, t + 1)
        if t == self.T - 1:
            numerator = numerator + delta * self.lam
        return numerator / (rho + rho * delta**2)

    def eq8(self, l, t):
        """Eq. (9) for l = L - 1."""
        rho, theta, W = self.rho, self.theta, self.W[l + 1]
        before_last = t < self.T
        matrix = rho * W.T @ W + (self.sigma + rho * theta**2 * before_last) * torch.eye(W.shape[1], dtype=W.dtype)
        if l == self.L - 1:
            right = W.T @ (rho * self.u(l + 1, t) + (self.lam if t == self.T else 0))
        else:
            right = rho * W.T @ self.v(l + 1, t)
        if before_last:
            right = right - rho * theta * self.w(l, t + 1)
        right = right + self.sigma * self.H(self.z[l, t])
        return torch.linalg.inv(matrix) @ right

    def algorithm2(self, warming, layers=None, times=None):
        """One iteration; ``layers`` is an order of 1 ... L - 1, ``times`` gives an order of 1 ... T for each layer."""
        L, T = self.L, self.T
        layers = layers or range(1, L)
        times = times or {l: range(1, T + 1) for l in range(1, L + 1)}
        for l in layers:
            self.eq4(l)
            for t in times[l]:
                self.z[l, t] = self.algorithm1(l, t, self.eq6(l, t))
                self.a[l, t] = self.eq8(l, t).clamp(0, 1)
        self.eq5()
        for t in times[L]:
            self.z[L, t] = self.eq7(t)
        if not warming:
            residual = self.z[L, T] - self.W[L] @ self.a[L - 1, T]
            if T > 1:
                residual = residual - self.delta * self.z[L, T - 1]
            self.lam = self.lam + self.rho * residual


def from_solver(variables, x, y, **constants):
    """The same point in the paper's notation."""
    L, T = len(variables.weights), len(x)
    return Paper(
        x={t: x[t - 1].T.clone() for t in range(1, T + 1)},
        y=y.T,
        W={l: variables.weights[l - 1].clone() for l in range(1, L + 1)},
        z={(l, t): variables.membranes[l - 1][t - 1].T.clone() for l in range(1, L + 1) for t in range(1, T + 1)},
        a={(l, t): variables.spikes[l - 1][t - 1].T.clone() for l in range(1, L) for t in range(1, T + 1)},
        lam=variables.multipliers[-1][-1].T.clone(),
        **constants,
    )

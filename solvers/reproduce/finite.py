"""Learning from finite samples in d dimensions, with plain matrices: beside the theory.

Inputs are standard normal, labels θ·x + σν (unless said). Every function returns a mean over
independent runs and its standard error.
"""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import NDArray

from solvers.simulation.closed_averages import erf_moments
from theory.tasks import TaskDistribution

Array = NDArray[np.float64]


def mean_and_error(values: Array) -> tuple[float, float]:
    """Mean of samples and its standard error."""
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def labelled(
    rng: np.random.Generator, runs: int, support: int, theta: Array, noise: float
) -> tuple[Array, Array]:
    """Inputs (runs, m, d) and labels (runs, m) of the task θ (d,), label noise of variance σ²."""
    X = rng.standard_normal((runs, support, len(theta)))
    y = X @ theta + np.sqrt(noise) * rng.standard_normal((runs, support))
    return X, y


def one_step_risk(
    R: Array, head: Array, inner_rate: float, support: int, noise: float,
    *, dimension: int, runs: int, seed: int,
) -> tuple[float, float]:  # fmt: skip
    """E‖θ̂ − θ‖² after one inner step from w = 0 with B = B*Rᵀ, B* the first M unit vectors."""
    rng, M = np.random.default_rng(seed), len(head)
    theta, B = np.zeros(dimension), np.zeros((dimension, len(R)))
    theta[:M], B[:M] = head, R.T
    X, y = labelled(rng, runs, support, theta, noise)
    w = inner_rate / support * np.einsum("rp,rpd,dk->rk", y, X, B, optimize=True)
    return mean_and_error(((w @ B.T - theta) ** 2).sum(-1))


def ridge_risk(
    head: Array, support: int, noise: float, *, dimension: int, runs: int, seed: int
) -> tuple[float, float]:
    """E‖θ̂ − θ‖² of ridge regression at the penalty σ²/‖θ‖² per dimension, θ = (head, 0)."""
    rng, theta = np.random.default_rng(seed), np.zeros(dimension)
    theta[: len(head)] = head
    X, y = labelled(rng, runs, support, theta, noise)
    gram = X.mT @ X + noise * dimension / (theta @ theta) * np.eye(dimension)
    found = np.linalg.solve(gram, (X.mT @ y[..., None]))[..., 0]
    return mean_and_error(((found - theta) ** 2).sum(-1))


def oracle_risk(
    head: Array, support: int, noise: float, *, runs: int, seed: int
) -> tuple[float, float]:
    """E‖θ̂ − θ‖² of least squares in the true span."""
    X, y = labelled(np.random.default_rng(seed), runs, support, head, noise)
    found = np.linalg.solve(X.mT @ X, (X.mT @ y[..., None]))[..., 0]
    return mean_and_error(((found - head) ** 2).sum(-1))


PENALTIES = np.geomspace(1e-4, 1e4, 33)


def target_risk(
    support: int, *, epsilon: float, squared: float, units: int, dimension: int, noise: float,
    runs: int, seed: int,
) -> dict[str, tuple[float, float]]:  # fmt: skip
    """Excess risk ½E_x[(f − θ·x)²] of a task θ = (w, δ, 0) from ``support`` examples.

    Inputs of variances (ε, 1, 1) on (k, k, d − 2k) coordinates, ‖w‖ = 1, ‖δ‖² = δ0². By method:
    "adapt" and "frozen" know the block that their training picked, the first or the second, and
    fit a head on it and a deviation under a ridge penalty; "scratch" is ridge regression. Each
    penalty is the best in the mean over runs; mean and standard error.
    """
    rng, spectrum = np.random.default_rng(seed), np.ones(dimension)
    spectrum[:units] = epsilon
    known = {"adapt": slice(0, units), "frozen": slice(units, 2 * units), "scratch": slice(0, 0)}
    risks = {name: np.zeros((runs, len(PENALTIES))) for name in known}
    for run in range(runs):
        theta = np.zeros(dimension)
        for block, norm in ((slice(0, units), 1.0), (slice(units, 2 * units), np.sqrt(squared))):
            direction = rng.standard_normal(units)
            theta[block] = norm * direction / np.linalg.norm(direction)
        X = rng.standard_normal((support, dimension)) * np.sqrt(spectrum)
        y = X @ theta + np.sqrt(noise) * rng.standard_normal(support)
        for name, block in known.items():
            gap = fine_tuned(X, y, block) - theta
            risks[name][run] = 0.5 * (spectrum * gap**2).sum(-1)
    return {name: mean_and_error(r[:, r.mean(0).argmin()]) for name, r in risks.items()}


def fine_tuned(X: Array, y: Array, known: slice) -> Array:
    """θ̂ (penalties, d): min over a head on the ``known`` coordinates, free, and a deviation δ in
    all of them of ‖y − Xθ‖²/n + λ‖δ‖²."""
    basis, _ = np.linalg.qr(X[:, known])
    left, singular, right = np.linalg.svd(X - basis @ (basis.T @ X), full_matrices=False)
    along = left.T @ (y - basis @ (basis.T @ y))
    shrink = singular / (singular**2 + len(y) * PENALTIES[:, None])
    found = (shrink * along) @ right
    found[:, known] += (y - found @ X.T) @ np.linalg.pinv(X[:, known]).T
    return found


def network_step_error(
    Q: Array, R: Array, w: Array, tasks: TaskDistribution, *, rates: tuple[float, float],
    support: int, dimension: int, runs: int, seed: int,
) -> tuple[float, float]:  # fmt: skip
    """ε after one step on P examples of a new task, of w at the first rate and of J at the second,

    w' = w + η_w·mean Δg, J' = J + η_J√N·mean Δ w g' ξ, for erf units and T = 1; every task moves
    the teacher by δZ. The error on new inputs is closed, at the overlaps of (J', B + δZ).
    """
    rng, N, K = np.random.default_rng(seed), dimension, len(Q)
    C, errors = np.block([[Q, R], [R.T, np.eye(R.shape[1])]]), np.empty(runs)
    values, directions = np.linalg.eigh(C)
    root = directions * np.sqrt(np.maximum(values, 0.0))
    for run in range(runs):
        frame = np.linalg.qr(rng.standard_normal((N, len(C))))[0].T
        J, B = np.split(np.sqrt(N) * root @ frame, [K])
        B = B + tasks.representation_spread * rng.standard_normal(B.shape)
        u, X = tasks.draw(rng, 1)[0], rng.standard_normal((support, N))
        h, y = X @ J.T / np.sqrt(N), scipy.special.erf(X @ B.T / np.sqrt(2 * N)) @ u
        y = y + tasks.label_noise * rng.standard_normal(support)
        g = scipy.special.erf(h / np.sqrt(2))
        delta = y - g @ w
        pull = delta[:, None] * w * np.sqrt(2 / np.pi) * np.exp(-(h**2) / 2)
        rows = np.vstack([J + rates[1] * np.sqrt(N) / support * pull.T @ X, B])
        s = np.append(-(w + rates[0] / support * delta @ g), u)
        errors[run] = 0.5 * s @ erf_moments(0, 0, rows @ rows.T / N) @ s
    return mean_and_error(errors)


def fixed_tasks(
    start: Array, covariance: Array, *, tasks: int, support: int, query: int, noise: float,
    inner_rate: float, outer_rate: float, steps: int, every: int, seed: int,
) -> tuple[Array, dict[str, Array]]:  # fmt: skip
    """First-order ANIL on a finite set of tasks whose examples are drawn once.

    B (d, k') from ``start``, w from 0, B* the first k unit vectors, heads v ~ N(0, ``covariance``).
    Returns the recorded steps, "product" B*ᵀBBᵀB* (n, k, k), and of the part of B outside the span,
    (n,) each, "unlearned", its squared operator norm, and "mean unlearned", ‖·‖_F²/(d − k).
    """
    rng, (d, width), k = np.random.default_rng(seed), start.shape, len(covariance)
    theta = np.zeros((tasks, d))
    theta[:, :k] = rng.standard_normal((tasks, k)) @ np.linalg.cholesky(covariance).T
    X, Z = (rng.standard_normal((tasks, n, d)) for n in (support, query))
    y, z = (
        (inputs @ theta[..., None])[..., 0] + np.sqrt(noise) * rng.standard_normal(inputs.shape[:2])
        for inputs in (X, Z)
    )
    B, w, recorded = start.copy(), np.zeros(width), []
    for step in range(steps + 1):
        if step % every == 0:
            singular = np.linalg.svd(B[k:], compute_uv=False)
            recorded.append((step, B[:k] @ B[:k].T, singular[0] ** 2, (singular**2).mean()))
        left = y - X @ (B @ w)
        heads = w + inner_rate / support * (left[:, None] @ X)[:, 0] @ B
        left = z - (Z @ (heads @ B.T)[..., None])[..., 0]
        pull = (left[:, None] @ Z)[:, 0] / query
        B, w = (
            B + outer_rate / tasks * pull.T @ heads,
            w + outer_rate / tasks * B.T @ pull.sum(0),
        )
    count, product, largest, mean = (np.array(column) for column in zip(*recorded, strict=True))
    return count, {"product": product, "unlearned": largest, "mean unlearned": mean}

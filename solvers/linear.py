"""What is special to linear networks: distances between spans, known limits and closed risks.

Their maps are the general ones at ``activation = "linear"``; nothing here moves a state. With
h = Jξ/√N the columns of Jᵀ/√N are the papers' representation B (d × k'), those of the teacher B*
(d × k): Q = BᵀB, R = BᵀB*, T = B*ᵀB*. Inner rate a, outer rate β, m support examples, Σ* the
second moment of the tasks' heads, σ² the variance of the label noise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def complement(Q: Array, R: Array, T: Array) -> Array:
    """BᵀPB, P the projector orthogonal to B*'s span: Q − R T⁻¹ Rᵀ, (K, K)."""
    return Q - R @ np.linalg.solve(T, R.T)


def unlearned(Q: Array, R: Array, T: Array) -> float:
    """‖P B‖², the squared operator norm of the representation outside the teacher's span."""
    return float(np.linalg.eigvalsh(complement(Q, R, T))[-1])


def subspace_distance(Q: Array, R: Array, T: Array) -> float:
    """Sine of the largest principal angle from the teacher's span to the learner's.

    √(1 − λ_min(T^(−1/2) Rᵀ Q⁺ R T^(−1/2))): 0 if every teacher unit is in the learner's span.
    With K = M the same from the complement, λ_max(Q⁻¹ (Q − R T⁻¹ Rᵀ)). Rounding: below 1e-8
    nothing is resolved, being a square root. Source: Collins et al., arXiv:2202.03483, §2.
    """
    values = np.linalg.eigvalsh(Q)
    if Q.shape[0] == T.shape[0] and values[0] > CUT * values[-1]:
        root = _inverse_root(Q)
        squared = np.linalg.eigvalsh(root @ complement(Q, R, T) @ root)[-1]
    else:
        root = _inverse_root(T) @ R.T
        inverse = np.linalg.pinv(Q, rcond=CUT, hermitian=True)
        squared = 1 - np.linalg.eigvalsh(root @ inverse @ root.T)[0]
    return float(np.sqrt(max(squared, 0.0)))


CUT = 1e-12
"""Directions of Q below this share of its largest eigenvalue are none."""


def _inverse_root(matrix: Array) -> Array:
    """The inverse of the symmetric square root of a positive matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return vectors / np.sqrt(values) @ vectors.T


def recovery_rate(inner_rate: float, outer_rate: float, second_moment: Array) -> float:
    """log(1 − aβμ²) per step, μ² the smallest eigenvalue of Σ*: how fast the distance decays.

    Source: Collins et al., arXiv:2202.03483, linearised about BᵀB = I/a (derived).
    """
    return float(np.log1p(-inner_rate * outer_rate * np.linalg.eigvalsh(second_moment)[0]))


def recovery_bound(
    inner_rate: float, outer_rate: float, second_moment: Array, distance: float, steps: Array
) -> Array:
    """(1 − ½ β a E0 μ²)^(t−1), E0 = 0.9 − dist_0²: Collins et al., Theorem 1, at steps t (n,)."""
    smallest = np.linalg.eigvalsh(second_moment)[0]
    factor = 1 - 0.5 * outer_rate * inner_rate * (0.9 - distance**2) * smallest
    return factor ** (np.asarray(steps, float) - 1)


def limit_product(covariance: Array, inner_rate: float, support: float, noise: float) -> Array:
    """Λ* = (1/a)(m/(m+1)) [I − ((m+1)/(Tr Σ* + σ²) Σ* + I)⁻¹], the limit of B*ᵀBBᵀB*, (M, M).

    First-order ANIL with centred tasks and T = I; ``noise`` is σ². At m = ∞: I/a.
    Source: Yüksel, Boursier & Flammarion, arXiv:2303.01335, Theorem 1.
    """
    identity = np.eye(len(covariance))
    if np.isinf(support):
        return identity / inner_rate
    snr = (support + 1) / (np.trace(covariance) + noise) * covariance
    share = support / (support + 1)
    return share / inner_rate * (identity - np.linalg.inv(snr + identity))


def unlearning_constant(
    covariance: Array, inner_rate: float, outer_rate: float, support: float, noise: float
) -> float:
    """c in ‖P B‖² → c/t for K > M: m/(2βa²(Tr Σ* + σ²)), squared operator norm.

    Source: Yüksel, Boursier & Flammarion, arXiv:2303.01335; the constant derived.
    """
    power = np.trace(covariance) + noise
    return float(support / (2 * outer_rate * inner_rate**2 * power))


def one_step_risk(
    product: Array, head: Array, inner_rate: float, support: float, noise: float
) -> float:
    """E‖θ̂ − θ‖² after one inner step from w = 0 on m examples of the task θ = B* head.

    ‖(G − I)w‖² + [wᵀG²w + ‖w‖² Tr G² + σ² Tr G²]/m with G = aΛ, Λ = B*ᵀBBᵀB* (M, M) and nothing
    outside the teacher's span. Twice the error ε. Source: arXiv:2303.01335, Proposition 1.
    """
    G = inner_rate * product
    bias, image = (G - np.eye(len(G))) @ head, G @ head
    spread = image @ image + (head @ head + noise) * np.trace(G @ G)
    return float(bias @ bias + spread / support)


def oracle_risk(dimension: int, support: float, noise: float) -> float:
    """E‖θ̂ − θ‖² of least squares that knows the k-dimensional span: σ² k/(m − k − 1).

    Infinite for m ≤ k + 1 (the inverse Wishart matrix has no mean).
    """
    left = support - dimension - 1
    return float(noise * dimension / left) if left > 0 else float("inf")


def ridge_risk(dimension: int, support: float, noise: float, norm: float) -> float:
    """E‖θ̂ − θ‖² of ridge regression in d dimensions at its best penalty, d, m → ∞, γ = d/m.

    ``norm`` is ‖θ‖², with θ in a random direction. At the best penalty λ = σ²γ/‖θ‖² the risk is
    σ²γ s(λ), s the Stieltjes transform of the Marchenko–Pastur law at −λ. Error O(1/d).
    Source: Dobriban & Wager, Ann. Statist. 46, 247 (2018), Theorem 2.1.
    """
    gamma = dimension / support
    penalty = noise * gamma / norm
    b = 1 - gamma + penalty
    stieltjes = (-b + np.sqrt(b**2 + 4 * gamma * penalty)) / (2 * gamma * penalty)
    return float(noise * gamma * stieltjes)


def tuned_ridge_risk(
    spectrum: Array, squared: Array, support: float, noise: float, free: int = 0
) -> float:
    """½E[(f − θ·x)²] of ridge regression on m examples at its best penalty, an approximation.

    ``spectrum`` and ``squared`` (d,): input variances s_i and θ_i² of the penalised directions;
    ``free`` further ones are fitted without a penalty. The deterministic equivalent, with
    z_i = s_i/(s_i + κ) and γ = (free + Σ z_i²)/m,

        ½ [Σ s_i θ_i² (1 − z_i)² + σ²γ]/(1 − γ),

    is exact for d, m → ∞ at fixed d/m; at d = 50 it is good to a few per cent. κ > 0 stands for
    the penalty λ = κ(1 − (free + Σ z_i)/m) ≥ 0.
    Source: Hastie, Montanari, Rosset & Tibshirani, Ann. Statist. 50, 949 (2022), §6.
    """
    kappa = np.geomspace(1e-6, 1e6, 1201)[:, None]
    kept = spectrum / (spectrum + kappa)
    gamma = (free + (kept**2).sum(-1)) / support
    allowed = (free + kept.sum(-1) <= support) & (gamma < 1)
    bias = (spectrum * squared * (1 - kept) ** 2).sum(-1)
    return float(0.5 * ((bias + noise * gamma)[allowed] / (1 - gamma[allowed])).min())

"""The noise of the outer loop: ⟨c_k c_l⟩ from the microscopic update, over fields and tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sympy
from sympy import Expr, IndexedBase, Symbol

from theory.derivation import microscopic
from theory.derivation.indexed import index, indices

if TYPE_CHECKING:
    from theory.derivation.symbolic_network import Derivation, Fields, SymbolicNetwork

k, l, a, c, d, t, x = indices("k l a c d t x")
b = index("b")


def query_noise(derivation: Derivation, network: SymbolicNetwork, per_task: bool) -> IndexedBase:
    """S_kl = ⟨c_k c_l⟩ over fields and noise: per task, or averaged over Gaussian tasks."""
    lead = (t,) if per_task else ()
    product = microscopic.update_coefficient(k, c) * microscopic.update_coefficient(l, d)
    value = average(derivation, network, product, (k, l), per_task)
    return derivation.program.define("S", ((*lead, k, l), value), paired=True, meaning="noise")


def average(
    derivation: Derivation,
    network: SymbolicNetwork,
    product: Expr,
    pair: tuple[Symbol, ...],
    per_task: bool,
) -> Expr:
    """⟨product⟩ over fields, noise and tasks: moments of s × averages, each defined per pair."""
    program, fields, total = derivation.program, network.fields, sympy.Integer(0)
    for weight, gaussian in microscopic.field_average(product, fields.covariance):
        factors = sympy.Mul.make_args(weight)
        kept = sympy.Mul(*(f for f in factors if not f.has(microscopic.s)))
        units = [i for f in factors if f.has(microscopic.s) for i in _unit(f)]
        inner = tuple(sorted(_slots_of(gaussian, fields) - set(pair), key=str))
        at = (*fields.lead, *pair, *inner)
        tensor = program.define(f"I{len(gaussian.signature)}_pair", (at, gaussian), paired=True)
        moment = _moment(derivation, network, units, pair, per_task)
        total += sympy.Add(*(kept * part * tensor[at] for part in sympy.Add.make_args(moment)))
    return total


def _moment(
    derivation: Derivation,
    network: SymbolicNetwork,
    units: list[Symbol],
    pair: tuple[Symbol, ...],
    per_task: bool,
) -> Expr:
    """⟨s_k s_l s_c s_d⟩ over tasks (Wick's theorem about a mean), or the product of one task.

    The average that multiplies it is symmetric in c and d, so that the two pairings that
    only exchange them are taken together.
    """
    program = derivation.program
    s = derivation.residual_weights(network)
    if per_task:
        if not derivation.per_task:
            value = s[a, x] * derivation.task_vector[t, x]
            s = program.define("s_task", ((t, a), value))
        return sympy.Mul(*(s[t, unit] for unit in units))
    if derivation.one_task:
        return sympy.Mul(*(s[unit] for unit in units))
    M = derivation.moments
    if len(units) == 2:
        return M[units[0], units[1]]
    mean = program.define("s_mean", ((a,), s[a, x] * derivation.mean_task[x]))
    first, second = pair
    third, fourth = (u for u in units if u not in pair)
    return (
        M[first, second] * M[third, fourth] + 2 * M[first, third] * M[second, fourth]
        - 2 * sympy.Mul(*(mean[u] for u in units))
    )  # fmt: skip


def pushed_noise(derivation: Derivation, S: IndexedBase, adapted: SymbolicNetwork) -> IndexedBase:
    """Noise of the total derivative: queries act through ∂J'/∂J, supports through ∂c/∂h."""
    program, lead = derivation.program, (t, *derivation.block)
    G = adapted.map
    if G is None:
        raise ValueError("the representation has not moved")
    k2, l2 = indices("k2 l2")
    half = program.define("GS", ((*lead, k, l), G[(*lead, k2, k)] * S[t, k2, l]))
    pieces = [((*lead, k, l), half[(*lead, k, l2)] * G[(*lead, l2, l)])]
    if derivation.extensive is not None:
        through = _support_noise(derivation, S)
        scale = (
            derivation.inner_noise_rate**2 / derivation.extensive * _overlap_variance(derivation)
        )
        pieces.append(((*lead, k, l), scale * through[t, k, l]))
    return program.define("S_total", *pieces)


def _overlap_variance(derivation: Derivation) -> Expr:
    """Variance of ξ·ξ'/√N of two examples, Σ_b f_b λ_b²; 1 for iid inputs."""
    if not derivation.block:
        return sympy.Integer(1)
    return derivation.fraction[b] * derivation.variance[b] ** 2


def _support_noise(derivation: Derivation, S: IndexedBase) -> IndexedBase:
    """Σ_pq ⟨F_pk F_ql⟩ S_pq with F_pk = ∂c_p/∂h_k on a support example.

    ∂c_p/∂x_k has a part in which the residual is differentiated and, at p = k, one in which
    g' is: three kinds of products, the mixed one twice.
    """
    program, network = derivation.program, derivation.support_network
    p, q = indices("k2 l2")
    s_, x_, g, delta = microscopic.s, microscopic.x, microscopic.g, microscopic.residual

    def slope(i: Symbol, order: int = 1) -> Expr:
        return s_[i] * sympy.diff(g(x_[i]), x_[i], order)

    def averaged(product: Expr) -> Expr:
        return average(derivation, network, product, (k, l), True)

    first_k, first_l = slope(p) * slope(k), slope(q) * slope(l)
    second_k, second_l = slope(k, 2) * delta(c), slope(l, 2) * delta(d)
    total = (
        averaged(first_k * first_l) * S[t, p, q]
        + averaged(second_k * first_l) * S[t, k, q]
        + averaged(first_k * second_l) * S[t, p, l]
        + averaged(second_k * second_l) * S[t, k, l]
    )
    return program.define("S_support", ((t, k, l), total), paired=True)


def _unit(factor: Expr) -> list[Symbol]:
    """The indices of a power of s."""
    base, power = factor.as_base_exp()
    return [base.indices[0]] * int(power)


def _slots_of(gaussian: Expr, fields: Fields) -> set[Symbol]:
    """The field indices that an average reads."""
    lead = set(fields.lead)
    return {i for e in gaussian.atoms(sympy.Indexed) for i in e.indices} - lead

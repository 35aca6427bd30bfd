"""The microscopic statement of learning: network, residual and loss, and averages over fields.

With s = (−w, u) over the learner's and the teacher's fields x = (h, b), the residual of a noisy
label is Δ = y − f = Σ_a s_a g(x_a) + σν, and the loss is ½Δ². Everything a flow needs of a single
example follows from these two lines: the update coefficient c_k = −∂loss/∂h_k, the gradient of the
head, and their products, averaged over the Gaussian fields term by term.
"""

from __future__ import annotations

from collections.abc import Callable

import sympy
from sympy import Expr, Function, IndexedBase, Symbol

from theory.averages import Average

g = Function("g")
x = IndexedBase("x")
s = IndexedBase("s")
SIGMA = Symbol("label_noise", nonnegative=True)
NU = Symbol("nu", real=True)


def residual(over: Symbol) -> Expr:
    """Δ = Σ_a s_a g(x_a) + σν, with the summed index named by the caller."""
    return s[over] * g(x[over]) + SIGMA * NU


def loss(delta: Expr) -> Expr:
    """The loss of one example."""
    return delta**2 / 2


def update_coefficient(unit: Symbol, over: Symbol) -> Expr:
    """c_k = −∂loss/∂h_k of one example, with the index of its residual named by the caller.

    ∂Δ/∂x_k keeps the one term of the residual whose index is k.
    """
    term = s[unit] * g(x[unit])
    delta = Symbol("Delta")
    slope = sympy.diff(loss(delta), delta).subs(delta, residual(over))
    return -slope * sympy.diff(term, x[unit])


def loss_of_examples(first: Symbol, second: Symbol) -> Expr:
    """½Δ² against the noiseless target, as a product of two residuals with indices of their own."""
    noiseless = {SIGMA: 0}
    delta = Symbol("Delta")
    half = loss(delta) / delta**2
    return half * residual(first).subs(noiseless) * residual(second).subs(noiseless)


def field_average(
    expression: Expr, covariance: Callable[[Symbol, Symbol], Expr]
) -> list[tuple[Expr, Expr]]:
    """⟨expression⟩ over fields and label noise, as (weight, average) pairs to be added.

    The expression is a polynomial in s, ν and derivatives of g at the fields x; ``covariance``
    gives ⟨x_a x_c⟩. Weights keep the factors s; odd powers of ν vanish and ⟨ν²⟩ = 1.
    """
    pairs: list[tuple[Expr, Expr]] = []
    for term in sympy.Add.make_args(sympy.expand(expression.doit())):
        noise = sympy.degree(term, NU) if term.has(NU) else 0
        if noise % 2:
            continue
        weight, slots = term.subs(NU, 1) * sympy.factorial2(noise - 1), {}
        rest = sympy.Integer(1)
        for factor in sympy.Mul.make_args(weight):
            base, power = factor.as_base_exp()
            found = _activation_factor(base)
            if found is None:
                rest *= factor
                continue
            at, order = found
            slots.setdefault(at, []).extend([order] * int(power))
        fields = sorted(slots, key=lambda at: (-max(slots[at]), str(at)))
        signature = tuple(tuple(sorted(slots[at])) for at in fields)
        arguments = [covariance(p, q) for i, p in enumerate(fields) for q in fields[i:]]
        pairs.append((rest, Average(signature)(*arguments)))
    return pairs


def _activation_factor(base: Expr) -> tuple[Symbol, int] | None:
    """(field index, order of the derivative) of g, g', g'' … at a field; None for other factors."""
    if isinstance(base, sympy.Derivative):
        return base.expr.args[0].indices[0], sympy.Integer(base.derivative_count)
    if isinstance(base, sympy.Subs):
        inner, _, (point,) = base.args
        return point.indices[0], int(inner.derivative_count)
    if getattr(base, "func", None) == g:
        return base.args[0].indices[0], 0
    return None

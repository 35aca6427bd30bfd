"""What closes on reduced flows: the symmetric plateau, its escape rate, the growth of R.

All for any number of units K = M, orthonormal teachers (T = 1) and small learning rates, by
algebra on the site-symmetric flow; per unit of outer rate.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy
from sympy import Expr, Symbol

from theory.activations import Activation, erf
from theory.ansatz import SITE_SYMMETRIC, K, Reduction, reduce
from theory.flow import derive
from theory.rules.anil import Anil
from theory.rules.sgd import Sgd

_EXCESS = Symbol("j", positive=True)
"""K − 1, in terms of which all the polynomials that occur are positive."""


@dataclass(frozen=True)
class SymmetricPlateau:
    """Q_kl = overlap, R_kn = alignment, ε = error and the escape rate, in K."""

    overlap: Expr
    alignment: Expr
    error: Expr
    escape_rate: Expr


def tidy(expression: Expr) -> Expr:
    """The expression in K with the polynomials below its roots factored."""
    shifted = expression.subs(K, _EXCESS + 1)
    for _ in range(2):
        shifted = shifted.replace(_is_root, lambda p: sympy.Pow(sympy.factor(p.base), p.exp))
        shifted = sympy.simplify(sympy.expand_power_base(shifted, force=True))
    rooted = sympy.factor(sympy.expand(sympy.factor(shifted).subs(_EXCESS, K - 1)))
    return rooted.replace(_is_root, lambda p: sympy.Pow(sympy.factor(p.base), p.exp))


def _is_root(expression: Expr) -> bool:
    power = expression.is_Pow and expression.exp.is_Rational
    return bool(power and not expression.exp.is_Integer)


def _committee(activation: Activation) -> tuple[Reduction, dict[Symbol, Expr]]:
    """Gradient flow of the soft committee with w = u0 = 1, and the values of its parameters."""
    rule = Sgd(outer_rate=1.0, regime="gradient-flow")
    reduction = reduce(derive(rule), SITE_SYMMETRIC, activation)
    values = {"u_0": 1, "v_d": 0, "v_o": 0, "T": 1, "T_o": 0, "w": 1, "delta": 0,
              "weight_decay": 0, "head_rate": 0, "outer_rate": 1}  # fmt: skip
    return reduction, _named(reduction, values)


def _named(reduction: Reduction, values: dict[str, int]) -> dict[Symbol, Expr]:
    """Values by symbol, for the symbols of a reduced flow of these names."""
    symbols = set(reduction.state).union(*(r.free_symbols for r in reduction.rates.values()))
    symbols |= reduction.explicit(reduction.error).free_symbols
    return {s: sympy.Integer(values[s.name]) for s in symbols if s.name in values}


def symmetric_plateau(activation: Activation = erf) -> SymmetricPlateau:
    """The symmetric plateau of the soft committee at small learning rate, for any K = M.

    The stationary point with all Q_kl alike and all R_kn alike is found by elimination (a Gröbner
    basis over rational functions of K); the escape rate is the eigenvalue of the mode in which each
    learner unit turns to one teacher unit, δR_kn ∝ K δ_kn − 1, of multiplicity (K − 1)² in the
    full flow. For erf: Q = 1/(2K−1), R = 1/√(K(2K−1)), λ = (2/π) K/(√(2K−1)(2K+1)^{3/2}).
    Raises ValueError where elimination leaves no positive solution.

    Source: Saad & Solla, Phys. Rev. E 52, 4225 (1995), derived here.
    """
    reduction, values = _committee(activation)
    Q, C, R, S = (s for s in reduction.state if s.name in ("Q", "C", "R", "S"))
    q, r = sympy.symbols("q r", positive=True)
    alike = {Q: q, C: q, R: r, S: r}
    rates = {s: rate.subs(values) for s, rate in reduction.rates.items()}
    overlap, alignment = _stationary(rates[Q].subs(alike), rates[R].subs(alike), q, r)
    point = {Q: overlap, C: overlap, R: alignment, S: alignment}
    mode = {R: K - 1, S: sympy.Integer(-1)}
    growth = sympy.Add(*(sympy.diff(rates[S], s) * part for s, part in mode.items()))
    error = reduction.explicit(reduction.error).subs(values).subs(point)
    return SymmetricPlateau(overlap, alignment, tidy(error), tidy(-growth.subs(point)))


def _stationary(first: Expr, second: Expr, q: Symbol, r: Symbol) -> tuple[Expr, Expr]:
    """The positive solution (q, r) of two equations that are rational in q, r and square roots."""
    equations = [sympy.factor(sympy.simplify(e)) for e in (first, second)]
    roots = sorted({p for e in equations for p in e.atoms(sympy.Pow) if _is_root(p)}, key=str)
    bases = list(dict.fromkeys(p.base for p in roots))
    names = {base: Symbol(f"x{n}", positive=True) for n, base in enumerate(bases)}
    system = [name**2 - base for base, name in names.items()]
    for equation in equations:
        rational = equation.replace(_is_root, lambda p: names[p.base] ** (2 * p.exp))
        system.append(sympy.expand(sympy.numer(sympy.together(rational))))
    order = (*names.values(), r, q)
    basis = sympy.groebner(system, *order, domain=sympy.QQ.frac_field(K), order="lex")
    for factor, _ in sympy.factor_list(sympy.numer(sympy.together(basis.exprs[-1])), q)[1]:
        if factor.has(r) or not factor.has(q):
            continue
        for found in sympy.solve(factor, q):
            if not found.subs(K, 2).is_positive:
                continue
            for other in basis.exprs:
                for square in sympy.solve(other.subs(q, found), r) if other.has(r) else ():
                    free = square.free_symbols - {K}
                    if not free and square.subs(K, 2).is_positive:
                        return found, tidy(square)
    raise ValueError("no stationary point with positive overlaps was found")


def growth_rate_of_alignment(activation: Activation = erf) -> Expr:
    """Growth rate of every R_kn from a small start in meta-learning, per η_J η_in σ_u².

    First-order ANIL with infinite support and one inner step, u0 = 0, w = 0, R ≈ 0, Q = q·1,
    T = 1: for erf 2/(π²(1+q)). A reconstruction: derived here, no published equations being
    available.
    """
    rule = Anil(outer_rate=1.0, inner_rate=1.0, regime="gradient-flow")
    reduction = reduce(derive(rule), SITE_SYMMETRIC, activation)
    values = {"u_0": 0, "v_d": 1, "v_o": 0, "T": 1, "T_o": 0, "w": 0, "delta": 0, "C": 0, "S": 0,
              "weight_decay": 0, "head_rate": 0, "outer_rate": 1, "inner_rate": 1}  # fmt: skip
    (R,) = (s for s in reduction.state if s.name == "R")
    (Q,) = (s for s in reduction.state if s.name == "Q")
    slope = sympy.diff(reduction.rates[R], R).subs(_named(reduction, values)).subs(R, 0)
    return sympy.factor(sympy.simplify(slope.subs(Q, Symbol("q", positive=True))))

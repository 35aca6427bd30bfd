"""A_4 and A_6 against one-dimensional integrals, Plackett's derivative, and many digits."""

import mpmath
import numpy as np
import pytest
import sympy
from scipy import special

from theory.errors import DomainError
from theory.gaussian.plackett import a4, a4_table, a6, sign_moment
from theory.gaussian.sign_moments import SignMoment
from theory.quadrature import gauss_hermite_average


def one_factor(load, own=0.0):
    """E[Π g(x_i)] for C = load loadᵀ + own·1, conditioned on the common factor."""
    h = 0.4 / np.sqrt(1 + load @ load)
    z = np.arange(-9, 9 + h, h)
    weight = np.exp(-z * z / 2)
    values = special.erf(np.multiply.outer(load, z) / np.sqrt(2 * (1 + own)))
    return np.sum(weight / weight.sum() * values.prod(axis=0))


@pytest.mark.parametrize("scale", [0.1, 0.5, 1.0, 3.0, 7.0, 30.0])
@pytest.mark.parametrize("own", [0.0, 1e-9, 0.5])
def test_a4_with_one_common_factor(scale, own, rng):
    loads = [scale * rng.normal(size=4) for _ in range(6)] + [np.full(4, scale)]
    loads.append(scale * np.array([1.0, 1.0, -1.0, 0.2]))
    C = np.array([np.outer(a, a) + own * np.eye(4) for a in loads])
    tolerance = 2e-12 + 1e-15 * scale**4  # rounding of 1 − R² ~ 1/variance, twice
    values = [one_factor(a, own) for a in loads]
    np.testing.assert_allclose(a4(C), values, rtol=0, atol=tolerance)


@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0, 7.0])
def test_a6_with_one_common_factor(scale, rng):
    for load in (scale * rng.normal(size=6), np.full(6, scale)):
        C = np.outer(load, load) + 0.1 * np.eye(6)
        assert float(a6(C)) == pytest.approx(one_factor(load, 0.1), abs=2e-12)


def test_a4_over_random_covariances(rng):
    A = rng.normal(size=(3, 4, 4))
    C = A @ np.swapaxes(A, 1, 2)
    C *= 0.25 / np.max(np.diagonal(C, axis1=1, axis2=2), axis=1)[:, None, None]
    integral = gauss_hermite_average(
        lambda *x: np.prod(special.erf(np.array(x) / 2**0.5), 0), C, 26
    )
    np.testing.assert_allclose(a4(C), integral, rtol=0, atol=1e-11)


def test_a4_relative_accuracy_at_variance_ten(rng):
    """1e-10 relative against 25 digits, over random and repeated fields."""
    for _ in range(2):
        A = rng.normal(size=(4, 2))
        C = A @ A.T
        C *= 10 / np.max(np.diag(C))
        C[3], C[:, 3] = C[0], C[:, 0].copy()
        C[3, 3] = C[0, 0]
        spread = np.sqrt(1 + np.diag(C))
        rho = [C[i, j] / spread[i] / spread[j] for i in range(4) for j in range(i + 1, 4)]
        exact = SignMoment(*map(sympy.Float, rho)).evalf(20)
        assert float(a4(C)) == pytest.approx(float(exact), rel=1e-10)


def test_table_holds_every_tuple_of_fields(rng):
    A = rng.normal(size=(2, 3, 3))
    C = A @ np.swapaxes(A, 1, 2)
    table = a4_table(C)
    assert table.shape == (2, 3, 3, 3, 3)
    for fields in ((0, 1, 2, 0), (2, 2, 1, 1), (1, 1, 1, 1), (0, 0, 2, 1)):
        np.testing.assert_allclose(table[:, *fields], a4(C[:, fields][:, :, fields]), atol=1e-15)
        np.testing.assert_allclose(table[:, *fields], table[:, *fields[::-1]], atol=0)


def test_symmetries(rng):
    A = rng.normal(size=(4, 4))
    C = A @ A.T
    order, signs = [2, 0, 3, 1], np.diag([1.0, -1.0, 1.0, 1.0])
    assert float(a4(C[np.ix_(order, order)])) == pytest.approx(float(a4(C)), abs=1e-14)
    assert float(a4(signs @ C @ signs)) == pytest.approx(-float(a4(C)), abs=1e-14)


def test_thirty_digits():
    """One factor again: ρ_ij = a²/(1 + a²), a² = 3/2."""
    rho = sympy.Rational(3, 5)
    with mpmath.workdps(35):
        a = mpmath.sqrt(mpmath.mpf(3) / 2)
        integral = mpmath.quad(
            lambda z: mpmath.npdf(z) * mpmath.erf(a * z / mpmath.sqrt(2)) ** 4,
            [-14, -6, -2, 0, 2, 6, 14],
        )
        value = mpmath.mpmathify(str(SignMoment(*[rho] * 6).evalf(30)))
        assert abs(value - integral) < mpmath.mpf(10) ** -29


def test_derivative_is_that_of_the_value():
    rho = sympy.symbols("r1:7")
    at = dict(zip(rho, (0.3, -0.2, 0.4, 0.1, 0.25, -0.35), strict=True))
    for i, symbol in enumerate(rho):
        slope = float(SignMoment(*rho).diff(symbol).subs(at).evalf())
        step = np.zeros(6)
        step[i] = 1e-3
        values = np.array(list(at.values()))
        stencil = [float(sign_moment(*(values + k * step))) for k in (-2, -1, 1, 2)]
        difference = np.dot([1, -8, 8, -1], stencil) / 12e-3
        assert slope == pytest.approx(difference, abs=1e-10)


def test_sextic_derivative_is_a_quartic():
    rho = sympy.symbols("r1:16")
    values = np.full(15, 0.3)
    at = dict(zip(rho, values, strict=True))
    slope = float(SignMoment(*rho).diff(rho[4]).subs(at).evalf())
    step = 1e-3 * np.eye(15)[4]
    stencil = [float(sign_moment(*(values + k * step))) for k in (-2, -1, 1, 2)]
    assert slope == pytest.approx(np.dot([1, -8, 8, -1], stencil) / 12e-3, abs=1e-10)


def test_what_simplifies():
    a, b = sympy.symbols("a b")
    assert SignMoment(a) == 2 * sympy.asin(a) / sympy.pi
    assert SignMoment(1, a, a, a, a, b) == 2 * sympy.asin(b) / sympy.pi
    assert SignMoment(0, 0, 0, a, b, a) == 0
    assert float(sign_moment(1.0, 0.2, 0.3, 0.2, 0.3, 0.5)) == pytest.approx(1 / 3, abs=1e-7)


def test_what_is_no_correlation_matrix():
    with pytest.raises(DomainError, match=r"1\.2"):
        sign_moment(1.2)
    with pytest.raises(DomainError):
        sign_moment(0.9, 0.9, 0.9, -0.9, -0.9, -0.9)
    with pytest.raises(DomainError):
        a4(-2 * np.eye(4))
    with pytest.raises(DomainError):
        SignMoment(*map(sympy.Float, (0.9, 0.9, 0.9, -0.9, -0.9, -0.9))).evalf()
    with pytest.raises(ValueError, match="6 fields"):
        sign_moment(0.1, 0.2)

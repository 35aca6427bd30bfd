"""Each closed form of erf against the published one and against integrals that know no rule."""

import pickle
import time

import mpmath
import numpy as np
import pytest
import sympy
from scipy import special
from sympy import Matrix, asin, pi, sqrt

from theory import averages, symbols
from theory.activations import erf
from theory.averages import Average, closed_form, evaluate, gaussian_average, numeric
from theory.errors import DomainError, NoClosedFormError
from theory.gaussian import closed_forms, integrands
from theory.quadrature import average, gauss_hermite_average
from theory.symbols import covariance_symbols, matrix_of, pairs, upper_triangle

SIGNATURES = (
    ((0,), (0,)),
    ((1,), (1,)),
    ((2,), (0,)),
    ((1, 1),),
    ((0, 0),),
    ((0, 1), (1,)),
    ((2,), (1,), (0,)),
    ((1,), (1,), (0, 0)),
    ((1,), (1,), (0,), (0,)),
    ((3,), (1,), (0,), (0,)),
    ((2,), (2,), (0,), (0,)),
    ((2,), (1,), (1,), (0,)),
    ((1,), (0,), (0,), (0,), (2,)),
    ((0,), (0,), (0,), (0,)),
)


def entries(C):
    return [C[..., i, j] for i, j in pairs(C.shape[-1])]


def smoothed(order, mean, variance):
    """E[g^(order)(mean + √variance z)] over one standard normal z, from g(x) = erf(x/√2)."""
    v = 1.0 + variance
    bell = np.sqrt(2 / np.pi / v) * np.exp(-(mean**2) / (2 * v))
    if order == 0:
        return special.erf(mean / np.sqrt(2 * v))
    return {1: 1.0, 2: -mean / v, 3: (mean**2 / v - 1) / v}[order] * bell


def factor_model(signature, load, own):
    """The average for C = load loadᵀ + diag(own), conditioned on the one or two common factors.

    Given the factors the fields are independent; the trapezoid rule on the factors converges like
    exp(−½(2π/h)²/(1 + eigenvalue)), far below 1e-15 at the step taken here.
    """
    factors = load.shape[1]
    step = 0.55 / np.sqrt(1.0 + np.linalg.norm(load, 2) ** 2)
    z = np.arange(-9.0, 9.0 + step, step)
    grid = np.meshgrid(*[z] * factors, indexing="ij")
    total = np.exp(-sum(g**2 for g in grid) / 2)
    total /= total.sum()
    for orders, row, variance in zip(signature, load, own, strict=True):
        (order,) = orders
        total = total * smoothed(
            order, sum(a * g for a, g in zip(row, grid, strict=True)), variance
        )
    return total.sum()


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_smoothing_one_field_is_what_its_integral_says(order):
    function = sympy.lambdify("x", erf.derivative(order).subs(symbols.X, "x"), "mpmath")
    for mean, deviation in ((0.3, 0.8), (-1.2, 2.0)):
        integral = mpmath.quad(
            lambda z, m=mean, d=deviation: mpmath.npdf(z) * function(m + d * z), [-12, -3, 0, 3, 12]
        )
        value = smoothed(order, np.float64(mean), deviation**2)
        assert value == pytest.approx(float(mpmath.mpf(integral)), abs=1e-13)


C2, C3, C4 = covariance_symbols(2), covariance_symbols(3), covariance_symbols(4)
X = sympy.symbols("x1:5", real=True)


def published():
    """(derived, published): Saad & Solla (1995), Goldt et al. (2019)."""
    (q, r, p), d, c = (C2[0, 0], C2[0, 1], C2[1, 1]), C3, C4
    g = [erf.derivative(0).subs(symbols.X, x) for x in X]
    i3 = gaussian_average(sympy.diff(g[0], X[0]) * X[1] * g[2], X[:3], d)
    v = [1 + c[i, i] for i in range(4)]
    lambda4 = v[0] * v[1] - c[0, 1] ** 2
    lambda0 = (
        lambda4 * c[2, 3] - c[1, 2] * c[1, 3] * v[0] - c[0, 2] * c[0, 3] * v[1]
        + c[0, 1] * c[0, 2] * c[1, 3] + c[0, 1] * c[0, 3] * c[1, 2]
    )  # fmt: skip

    def lambda_(a):
        return (
            lambda4 * v[a] - c[1, a] ** 2 * v[0] - c[0, a] ** 2 * v[1]
            + 2 * c[0, 1] * c[0, a] * c[1, a]
        )  # fmt: skip

    i3_of_three = d[1, 2] * (1 + d[0, 0]) - d[0, 1] * d[0, 2]
    lambda3 = (1 + d[0, 0]) * (1 + d[2, 2]) - d[0, 2] ** 2
    return {
        "I2": (closed_form(((0,), (0,)), erf, C2), 2 / pi * asin(r / sqrt((1 + q) * (1 + p)))),
        "J2": (closed_form(((1,), (1,)), erf, C2), 2 / pi / sqrt((1 + q) * (1 + p) - r**2)),
        "I3": (i3, 2 / pi / sqrt(lambda3) * i3_of_three / (1 + d[0, 0])),
        "I4": (
            closed_form(((1,), (1,), (0,), (0,)), erf, C4),
            4 / pi**2 / sqrt(lambda4) * asin(lambda0 / sqrt(lambda_(2) * lambda_(3))),
        ),
    }  # fmt: skip


def test_published_forms():
    """As expressions: where they are not the same at once, their squares and signs are."""
    for derived, known in published().values():
        (f,), (h,) = ([*e.atoms(asin)] or [sympy.Integer(1)] for e in (derived, known))
        assert sympy.simplify((derived / f) / (known / h)) == 1
        if f != 1:
            a, b = f.args[0], h.args[0]
            assert sympy.cancel(sympy.expand(a**2) / sympy.expand(b**2)) == 1
            assert sympy.expand(sympy.numer(a) - sympy.numer(b)) == 0


def test_published_forms_to_fifty_digits(rng):
    for derived, known in published().values():
        for _ in range(3):
            A = Matrix(4, 4, [sympy.Rational(int(v), 7) for v in rng.integers(-20, 20, 16)])
            C = A * A.T
            at = {}
            for symbol in derived.free_symbols | known.free_symbols:
                at[symbol] = C[int(symbol.name[1]) - 1, int(symbol.name[2]) - 1]
            difference = derived.subs(at).evalf(50) - known.subs(at).evalf(50)
            assert abs(difference) < sympy.Float(10, 50) ** -48


@pytest.mark.parametrize("signature", SIGNATURES[:-2], ids=averages.name_of)
def test_random_covariances_up_to_variance_one(signature, rng):
    n = len(signature)
    A = rng.normal(size=(6, n, n))
    C = A @ np.swapaxes(A, 1, 2)
    C[::2, -1], C[::2, :, -1] = C[::2, 0], C[::2, :, 0]
    C[::2, -1, -1] = C[::2, 0, 0]
    C *= 0.8 / np.max(np.diagonal(C, axis1=1, axis2=2), axis=1)[:, None, None]
    value = numeric(signature, erf)(*entries(C))
    if n <= 4:
        np.testing.assert_allclose(value, average(signature, erf, *entries(C)), rtol=0, atol=1e-12)
    if n <= 2:

        def product(*x):
            factors = [
                erf.dg(xi, k) for xi, orders in zip(x, signature, strict=True) for k in orders
            ]
            return np.prod(factors, axis=0)

        np.testing.assert_allclose(value, gauss_hermite_average(product, C, 90), rtol=0, atol=1e-12)


@pytest.mark.parametrize("signature", [s for s in SIGNATURES if all(len(o) == 1 for o in s)],
                         ids=averages.name_of)  # fmt: skip
@pytest.mark.parametrize("scale", [0.5, 3.0, 7.0])
@pytest.mark.parametrize("own", [1.0, 1e-3, 1e-12, 0.0])
def test_large_and_nearly_singular_covariances(signature, scale, own, rng):
    """Variances to several hundred, two common factors and little or nothing else."""
    n = len(signature)
    for factors in (1, 2):
        load = scale * rng.normal(size=(n, factors))
        load[-1] = load[0]
        variances = own * rng.random(n)
        C = load @ load.T + np.diag(variances)
        value = numeric(signature, erf)(*entries(C))
        assert value == pytest.approx(
            factor_model(signature, load, variances), rel=1e-10, abs=1e-12
        )


@pytest.mark.parametrize("signature", SIGNATURES[:-2], ids=averages.name_of)
def test_price_is_the_derivative_of_the_closed_form(signature, rng):
    n = len(signature)
    symbols = upper_triangle(covariance_symbols(n))
    A = rng.normal(size=(n, n + 1))
    at = entries(A @ A.T / n)
    form = closed_form(signature, erf, covariance_symbols(n))
    gradient = sympy.lambdify(symbols, [form.diff(s) for s in symbols], "numpy", cse=True)(*at)
    for pair, slope in zip(pairs(n), gradient, strict=True):
        terms = averages.price(signature, *pair)
        by_price = sum(float(c) * numeric(further, erf)(*at) for c, further in terms)
        assert by_price == pytest.approx(slope, rel=1e-10, abs=1e-13)


def test_a_named_average_differentiates_by_price():
    q, r, p = upper_triangle(C2)
    I2 = Average(((0,), (0,)))(q, r, p)
    assert I2.diff(r) == Average(((1,), (1,)))(q, r, p)
    assert I2.diff(q) == Average(((2,), (0,)))(q, r, p) / 2
    assert sympy.simplify(evaluate(I2.diff(p), erf) - evaluate(I2, erf).diff(p)) == 0


def test_equal_fields_are_one_field():
    """⟨g'(x)² g(y)²⟩ with the fields repeated is the average with two orders in one slot."""
    C = covariance_symbols(2)
    doubled = Matrix([[C[i // 2, j // 2] for j in range(4)] for i in range(4)])
    four = closed_form(((1,), (1,), (0,), (0,)), erf, doubled)
    two = closed_form(((1, 1), (0, 0)), erf, C)
    at = {C[0, 0]: sympy.Rational(7, 3), C[0, 1]: sympy.Rational(-5, 4), C[1, 1]: 2}
    assert abs((four - two).subs(at).evalf(40)) < sympy.Float(10, 40) ** -38


def test_permuting_fields_permutes_nothing_else(rng):
    signature = ((2,), (1,), (1,), (0,))
    A = rng.normal(size=(4, 4))
    C = A @ A.T
    value = numeric(signature, erf)(*entries(C))
    for _ in range(5):
        order = rng.permutation(4)
        moved = tuple(signature[i] for i in order)
        assert numeric(moved, erf)(*entries(C[np.ix_(order, order)])) == pytest.approx(
            value, rel=1e-12
        )


def test_rounding_near_singular_covariances(rng):
    """The numeric form against the same form in 50 digits: relative 1e-10 at variance 10."""
    signature = ((1,), (1,), (0,), (0,))
    form = closed_form(signature, erf, C4)
    for _ in range(5):
        a = rng.normal(size=4) + 2.0
        a *= np.sqrt(10) / np.max(np.abs(a))
        C = np.outer(a, a) + 1e-13 * np.eye(4)
        rational = (sympy.Rational(float(c)) for c in entries(C))
        exact = form.subs(dict(zip(upper_triangle(C4), rational, strict=True)))
        assert float(numeric(signature, erf)(*entries(C))) == pytest.approx(
            float(exact.evalf(50)), rel=1e-12
        )


def test_any_precision():
    """One factor, 45 digits: ⟨g(az) g(bz)⟩ is a one-dimensional integral."""
    x, y = X[:2]
    a, b = sympy.Rational(7, 5), sympy.Rational(-3, 2)
    value = gaussian_average(
        sympy.erf(x / sqrt(2)) * sympy.erf(y / sqrt(2)), (x, y), [[a**2, a * b], [a * b, b**2]]
    ).evalf(45)
    with mpmath.workdps(50):
        r2 = mpmath.sqrt(2)
        integral = mpmath.quad(
            lambda z: mpmath.npdf(z) * mpmath.erf(7 * z / 5 / r2) * mpmath.erf(-3 * z / 2 / r2),
            [-16, -8, -4, 0, 4, 8, 16],
        )
        assert abs(mpmath.mpmathify(str(value)) - integral) < mpmath.mpf(10) ** -43


def test_common_forms_are_derived_quickly():
    for cached in (closed_forms._average, closed_forms._reduce, closed_forms.determinant,
                   closed_forms.bordered, averages._integrand):  # fmt: skip
        cached.cache_clear()
    start = time.process_time()
    for signature in SIGNATURES:
        closed_form(signature, erf, covariance_symbols(len(signature)))
    assert time.process_time() - start < 1.0


def test_names_and_latex():
    I4 = Average(((1,), (1,), (0,), (0,)))(*upper_triangle(C4))
    assert str(I4.func) == "I4"
    assert sympy.latex(I4).startswith("I_{4}\\left(C_{11}")
    assert averages.latex_name(((2,), (0,))) == r"\langle g''_{1} g_{2}\rangle"
    assert Average(((1, 0), (2,))) is Average(((0, 1), (2,)))
    assert matrix_of(I4.args) == C4


def test_averages_pickle():
    I4 = Average(((1,), (1,), (0,), (0,)))(*upper_triangle(C4)) + 2 * C4[0, 1]
    assert pickle.loads(pickle.dumps(I4)) == I4


@pytest.mark.parametrize(
    "expression",
    [sympy.sin(X[0]), 1 / X[0], sympy.erf(X[0] + 1), sympy.exp(X[0] ** 2), sympy.exp(X[0]),
     sympy.erf(X[0] ** 2), sympy.sqrt(sympy.erf(X[0]))],
)  # fmt: skip
def test_what_has_no_closed_form_says_so(expression):
    with pytest.raises(NoClosedFormError):
        gaussian_average(expression, X[:1], [[sympy.Symbol("q", positive=True)]])


def test_eight_signs_are_refused():
    with pytest.raises(NoClosedFormError):
        closed_form(((0,),) * 8, erf, covariance_symbols(8))


def test_matrices_that_are_no_covariance():
    g = sympy.erf(X[0]) * sympy.erf(X[1])
    with pytest.raises(DomainError):
        gaussian_average(g, X[:2], [[1, 2], [2, 1]])
    with pytest.raises(ValueError, match="symmetric"):
        gaussian_average(g, X[:2], [[1, 0], [sympy.Rational(1, 2), 1]])
    with pytest.raises(ValueError, match=r"shape \(2, 2\)"):
        gaussian_average(g, X[:2], [[1]])
    with pytest.raises(DomainError, match=r"array\(3\.\)"):
        numeric(((0,), (0,)), erf)(1.0, 3.0, 1.0)
    assert float(numeric(((0,), (0,)), erf)(0.0, 0.0, 0.0)) == 0.0


def test_forms_of_the_variables_are_fields_too(rng):
    """erf of x + 2y, and the weight exp(−(x² + xy + y²)/2)."""
    x, y = X[:2]
    C = np.array([[0.6, 0.2], [0.2, 0.5]])
    expression = sympy.erf(x + 2 * y) * sympy.erf(x / 3) * sympy.exp(-(x**2 + x * y + y**2) / 2)
    function = sympy.lambdify((x, y), expression, modules=["scipy", "numpy"])
    value = gaussian_average(expression, (x, y), C.tolist())
    assert float(value) == pytest.approx(float(gauss_hermite_average(function, C, 120)), abs=1e-12)


def test_wick():
    q, r, p = C2[0, 0], C2[0, 1], C2[1, 1]
    x, y = X[:2]
    assert sympy.expand(gaussian_average(x**2 * y**2, (x, y), C2) - q * p - 2 * r**2) == 0
    assert sympy.expand(gaussian_average(x**3 * y**3, (x, y), C2) - 9 * q * r * p - 6 * r**3) == 0
    assert gaussian_average(x**2 * y, (x, y), C2) == 0
    assert gaussian_average(sympy.Integer(3), (x, y), C2) == 3


def test_reading_keeps_signs_and_scales():
    x = X[0]
    value = gaussian_average(sympy.erf(-2 * x) * sympy.erf(x), (x,), [[sympy.Rational(1, 3)]])
    with mpmath.workdps(25):
        s = mpmath.sqrt(mpmath.mpf(1) / 3)
        integral = mpmath.quad(
            lambda z: mpmath.npdf(z) * mpmath.erf(-2 * s * z) * mpmath.erf(s * z), [-12, 0, 12]
        )
    assert float(value) == pytest.approx(float(mpmath.mpf(integral)), abs=1e-15)
    assert len(integrands.read(sympy.sign(x) ** 3, (x,)).terms[0].signs) == 1

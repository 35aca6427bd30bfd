"""Activations, and the averages of relu, polynomials and a user's own."""

import pickle

import numpy as np
import pytest
import sympy
from scipy import integrate, special, stats

from theory import activations
from theory.activations import Activation, erf, linear, polynomial, relu
from theory.averages import closed_form, numeric
from theory.errors import DomainError, NoClosedFormError
from theory.gaussian.kinks import average as average_of_kinks
from theory.quadrature import average, gauss_hermite_average
from theory.symbols import X, covariance_symbols, pairs


def entries(C):
    return [C[..., i, j] for i, j in pairs(C.shape[-1])]


def relu_smoothed(order, mean, variance):
    s = np.sqrt(variance)
    if order == 0:
        return mean * special.ndtr(mean / s) + s * stats.norm.pdf(mean / s)
    if order == 1:
        return special.ndtr(mean / s)
    hermite = {2: 1.0, 3: -mean / variance, 4: (mean**2 / variance - 1) / variance}[order]
    return hermite * stats.norm.pdf(mean / s) / s


@pytest.mark.parametrize(
    "orders",
    [(0, 0), (1, 1), (1, 0), (2, 0), (2, 1), (1, 0, 0), (1, 1, 0), (1, 1, 0, 0), (2, 1, 0, 0),
     (3, 0), (4, 0), (3, 2, 0), (4, 1, 0)],
)  # fmt: skip
@pytest.mark.parametrize("own", [1.0, 0.05])
def test_relu_against_one_dimensional_integrals(orders, own, rng):
    load, variances = rng.normal(size=len(orders)), own * (0.5 + rng.random(len(orders)))
    C = np.outer(load, load) + np.diag(variances)

    def integrand(z):
        fields = zip(orders, load, variances, strict=True)
        return stats.norm.pdf(z) * np.prod([relu_smoothed(o, a * z, v) for o, a, v in fields])

    integral, _ = integrate.quad(integrand, -12, 12, epsabs=1e-13, limit=400, points=[-1, 0, 1])
    value = numeric(tuple((o,) for o in orders), relu)(*entries(C))
    assert float(value) == pytest.approx(integral, rel=1e-10, abs=1e-12)


def test_relu_kernel_is_the_arc_cosine_one():
    """Cho & Saul (2009): E[relu relu] = √(qp) (sin θ + (π − θ) cos θ)/2π."""
    for q, r, p in ((1.0, 0.3, 2.0), (2.0, -1.9, 2.0), (3.0, 3.0, 3.0), (1.0, -1.0, 1.0)):
        theta = np.arccos(r / np.sqrt(q * p))
        kernel = np.sqrt(q * p) * (np.sin(theta) + (np.pi - theta) * np.cos(theta)) / (2 * np.pi)
        assert float(numeric(((0,), (0,)), relu)(q, r, p)) == pytest.approx(kernel, abs=1e-14)


def test_relu_nearly_singular_to_all_digits():
    """E[relu(x)²] = q/2, approached along r → q."""
    for gap in (1e-6, 1e-10, 1e-14):
        value = float(numeric(((0,), (0,)), relu)(2.0, 2.0 - gap, 2.0))
        assert value == pytest.approx(1.0 - gap / 2, abs=1e-9 if gap > 1e-8 else 1e-13)


@pytest.mark.parametrize("orders", [(0, 0), (1, 1), (1, 1, 0, 0), (2, 0, 0)])
def test_polynomials_are_exact(orders, rng):
    cubic = polynomial([0.5, 1, -0.25, 2])
    signature = tuple((o,) for o in orders)
    A = rng.normal(size=(3, len(orders), len(orders)))
    C = A @ np.swapaxes(A, 1, 2)
    C[0, -1], C[0, :, -1], C[0, -1, -1] = C[0, 0], C[0, :, 0], C[0, 0, 0]
    C[0, -1, 0] = C[0, 0, -1] = C[0, 0, 0]
    value = numeric(signature, cubic)(*entries(C))
    np.testing.assert_allclose(value, average(signature, cubic, *entries(C), nodes=16), rtol=1e-11)


def test_hermite_polynomials_are_orthogonal():
    """E[He_m(x) He_n(y)] = δ_mn n! rⁿ at unit variances."""
    C = sympy.Matrix([[1, sympy.Symbol("r")], [sympy.Symbol("r"), 1]])
    third = Activation("He3", sympy.Symbol("x") ** 3 - 3 * sympy.Symbol("x"))
    assert sympy.expand(closed_form(((0,), (0,)), third, C)) == 6 * sympy.Symbol("r") ** 3
    assert sympy.expand(closed_form(((0,), (1,)), third, C)) == 0


def test_linear_averages_are_covariances():
    C = covariance_symbols(4)
    assert closed_form(((0,), (0,)), linear, covariance_symbols(2)) == covariance_symbols(2)[0, 1]
    assert closed_form(((1,), (1,), (0,), (0,)), linear, C) == C[2, 3]


def test_quadrature_and_closed_form_are_two_routes(rng):
    signature = ((1,), (1,), (0,), (0,))
    A = rng.normal(size=(4, 4, 4))
    C = A @ np.swapaxes(A, 1, 2) / 8
    C[0] = 0.4
    by_rules, by_nodes = numeric(signature, erf)(*entries(C)), average(signature, erf, *entries(C))
    np.testing.assert_allclose(by_nodes, by_rules, rtol=0, atol=1e-11)
    assert average(((0,),), relu, [1.0, 4.0], nodes=200) == pytest.approx(
        np.sqrt([1.0, 4.0]) / np.sqrt(2 * np.pi), rel=1e-2
    )


@pytest.mark.parametrize(("variance", "tolerance"), [(0.5, 1e-8), (2.0, 2e-5)])
def test_stated_accuracy_for_a_users_activation(variance, tolerance):
    tanh = Activation("tanh", sympy.tanh(X))
    signature = ((1,), (1,), (0,), (0,))
    C = variance * (0.6 + 0.4 * np.eye(4))
    value = average(signature, tanh, *entries(C))
    assert float(value) == pytest.approx(
        float(average(signature, tanh, *entries(C), nodes=64)), abs=tolerance
    )


def test_gauss_hermite_takes_any_function():
    C = [[1.0, 0.5], [0.5, 1.0]]
    assert float(gauss_hermite_average(lambda x, y: np.cos(x - y), C)) == pytest.approx(
        np.exp(-0.5)
    )
    assert float(gauss_hermite_average(lambda x, y: x * y, np.ones((2, 2)))) == pytest.approx(1.0)


def test_numbers_that_are_no_covariance():
    with pytest.raises(DomainError):
        gauss_hermite_average(lambda x, y: x, [[1.0, 2.0], [2.0, 1.0]])
    with pytest.raises(DomainError):
        average(((0,), (0,)), erf, 1.0, 2.0, 1.0)
    with pytest.raises(DomainError):
        average(((0,),), erf, -1.0)
    with pytest.raises(DomainError):
        gauss_hermite_average(lambda x: x, [[np.nan]])


def test_derivatives_by_values_and_by_formula():
    x = np.linspace(-2, 2, 7)
    np.testing.assert_allclose(erf.g(x), special.erf(x / np.sqrt(2)), atol=1e-15)
    np.testing.assert_allclose(erf.dg(x), np.sqrt(2 / np.pi) * np.exp(-x * x / 2), atol=1e-15)
    np.testing.assert_allclose(erf.dg(x, 2), -x * erf.dg(x), atol=1e-15)
    assert linear.dg(x, 1).shape == x.shape
    with pytest.raises(ValueError, match="no values"):
        relu.dg(x, 2)


def test_parity():
    assert erf.odd
    assert linear.odd
    assert not relu.odd
    assert polynomial([1, 0, 3]).even


@pytest.mark.parametrize("name", activations.ACTIVATIONS)
def test_the_traits_of_a_shipped_activation_are_those_of_its_formula(name):
    shipped = activations.ACTIVATIONS[name]
    assert shipped.traits == Activation(name, shipped.formula).traits


def test_a_formula_is_an_expression_or_a_function():
    by_function = Activation("tanh", lambda x: sympy.tanh(x))
    assert by_function.expression == Activation("tanh", sympy.tanh(sympy.Symbol("t"))).expression
    assert by_function.traits == (-1, False)
    assert Activation("bent", lambda x: abs(x) + x).traits == (0, True)


def test_an_activation_by_its_values_alone():
    own = Activation("own", functions=(np.tanh, lambda x: 1 / np.cosh(x) ** 2))
    tanh = Activation("tanh", sympy.tanh(sympy.Symbol("t")))
    C = (0.5, 0.2, 0.4)
    assert float(average(((1,), (0, 1)), own, *C)) == pytest.approx(
        float(average(((1,), (0, 1)), tanh, *C)), abs=1e-13
    )
    assert (
        own.digest != Activation("own", functions=(np.tanh, lambda x: 1 - np.tanh(x) ** 2)).digest
    )
    with pytest.raises(NoClosedFormError):
        own.derivative()
    with pytest.raises(ValueError, match="derivative 2 is needed"):
        own.dg(0.0, 2)
    with pytest.raises(ValueError, match="not both"):
        Activation("neither")
    with pytest.raises(ValueError, match="more than one symbol"):
        Activation("two", sympy.Symbol("a") * sympy.Symbol("b"))


def test_activations_are_values():
    for activation in activations.ACTIVATIONS.values():
        copy = pickle.loads(pickle.dumps(activation))
        assert copy == activation
        assert hash(copy) == hash(activation)
        assert copy.digest == activation.digest
    assert len({a.digest for a in activations.ACTIVATIONS.values()}) == 3


@pytest.mark.parametrize(
    ("activation", "signature", "closed"),
    [(erf, ((0,), (0,)), True), (erf, ((0,),) * 4, False), (erf, ((1,), (0,), (0,), (0,)), True),
     (relu, ((0,),) * 3, True), (relu, ((1,), (1,), (0,), (0,)), False),
     (polynomial([0, 1, 1]), ((0,),) * 6, True),
     (Activation("tanh", sympy.tanh(X)), ((0,),), False)],
)  # fmt: skip
def test_what_is_closed(activation, signature, closed):
    assert activation.has_closed_form(signature) is closed


def test_a_formula_may_be_a_function_of_sympy_and_must_be_a_formula():
    assert Activation("cosine", sympy.cos).derivative() == -sympy.sin(X)
    with pytest.raises(ValueError, match="'cos' is no formula"):
        Activation("text", "cos")  # type: ignore[arg-type]


def test_powers_of_relu():
    """⟨g'gg⟩ of max(0, x)² where x_i = z√0.3 + e_i√0.7: one integral over z, exact given z."""
    square = Activation("relu²", lambda x: sympy.Max(x, 0) ** 2)
    C = 0.7 * np.eye(3) + 0.3
    found = average_of_kinks(((1,), (0,), (0,)), square, *entries(C))

    def given(z):
        mean, s = np.sqrt(0.3) * z, np.sqrt(0.7)
        above, density = special.ndtr(mean / s), stats.norm.pdf(mean / s)
        slope, value = mean * above + s * density, (mean**2 + s**2) * above + mean * s * density
        return stats.norm.pdf(z) * 2 * slope * value**2

    assert float(found) == pytest.approx(integrate.quad(given, -12, 12)[0], rel=1e-9)

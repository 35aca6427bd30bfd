"""Several inner steps on one finite support, which close for linear units by Wick's theorem."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.testing import assert_allclose

from solvers import Experiment, ExperimentError
from solvers.simulation.microscopic import microscopic_rates
from theory.derivation.wishart import chain_mean
from theory.rules import MetaRule
from theory.rules.base import rate

S = np.array([[1.0, 0.2, -0.3], [0.2, 0.6, 0.1], [-0.3, 0.1, 0.8]])
LETTERS = {"h": np.diag([1.0, 1.0, 0.0]), "e": np.diag([0.0, 0.0, 1.0])}
BASE = Experiment.load("meta-specialization").replace(
    model={"activation": "linear", "hidden": 3, "teacher_hidden": 2,
           "teacher_overlap": [[1.0, 0.2], [0.2, 0.8]]},
    tasks={"head_mean": [0.5, -0.3], "head_covariance": [[0.5, 0.1], [0.1, 0.3]]},
    initial={
        "w": [0.3, -0.2, 0.4],
        "Q": [[0.5, 0.1, 0.0], [0.1, 0.4, -0.05], [0.0, -0.05, 0.6]],
        "R": [[0.2, 0.1], [-0.1, 0.15], [0.05, 0.1]],
    },
    **{"tasks.label_noise": 0.2, "integrate.time": 1.0, "integrate.backend": "numpy"},
)  # fmt: skip


def anil(**changes):
    rule = {"name": "anil", "regime": "gradient-flow", "inner_rate": 0.4, "inner_steps": 2,
            "support": 3, "outer_rate": 1.0, "head_rate": 0.7}  # fmt: skip
    return BASE.replace(rule=rule | changes)


def averaged(chain, P):
    """⟨W A_1 W … W⟩ from the words in the covariance."""
    total = np.zeros((3, 3))
    for (word, loops, power), count in chain_mean(chain):
        value = S * count / P**power
        for letter in word:
            value = value @ LETTERS[letter] @ S
        for loop in loops:
            matrix = np.eye(3)
            for letter in loop:
                matrix = matrix @ LETTERS[letter] @ S
            value = value * np.trace(matrix)
        total += value
    return total


@pytest.mark.parametrize("chain", ["", "h", "e", "hh", "heh", "hhh"])
def test_words_of_the_gram_matrix_are_those_of_samples(chain, rng):
    P, samples = 3, 400_000
    z = rng.standard_normal((samples, P, 3)) @ np.linalg.cholesky(S).T
    W = np.einsum("npa,npc->nac", z, z) / P
    words = W
    for letter in chain:
        words = words @ LETTERS[letter] @ W
    error = words.std(0) / np.sqrt(samples)
    assert (np.abs(words.mean(0) - averaged(tuple(chain), P)) < 4.5 * error).all()


def test_one_word_by_hand():
    """⟨W A W⟩ = S A S + (S Aᵀ S + S Tr(A S))/P."""
    A, P = LETTERS["h"], 5
    expected = S @ A @ S * (1 + 1 / P) + S * np.trace(A @ S) / P
    assert_allclose(averaged(("h",), P), expected, rtol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("order", ["first", "exact"])
@pytest.mark.parametrize(("steps", "P"), [(2, 1), (2, 3), (3, 3), (2, 10)])
def test_drifts_are_those_of_the_update(order, steps, P, effort):
    e = anil(order=order, inner_steps=steps, support=P, inner_rate=0.3)
    y = e.initial_state()
    found = microscopic_rates(e, samples=int(1_000_000 * effort), seed=steps)
    rates = found.flow(e)
    Q, R, w = e.layout.unpack(e.compiled.rhs(y, e.parameters))
    for name, value in (("Q", Q[None]), ("R", R[None]), ("w", w)):
        assert np.abs(rates[name].z(value)).max() < 4, name
    assert abs(found.error.z(e.compiled.error(y, e.parameters))) < 4


def test_the_exact_order_is_the_gradient_of_the_error():
    e = anil(order="exact")
    y, p, c = e.initial_state(), e.parameters, e.compiled
    Q, R, _ = e.layout.unpack(y)
    slope = c.error_gradient(y, p)
    K, pairs = 3, 6
    A = np.zeros((K, K))
    A[e.layout.pairs] = slope[:pairs]
    A = A + A.T
    D, T = slope[pairs:-K].reshape(K, 2), p["T"][0]
    dQ, dR, dw = e.layout.unpack(c.rhs(y, p))
    assert_allclose(dR, -(A @ R + D @ T), atol=1e-12)
    half = A @ Q + D @ R.T
    assert_allclose(dQ, -(half + half.T), atol=1e-12)
    assert_allclose(dw, -0.7 * slope[-K:], atol=1e-12)
    step = 1e-6
    numeric = [(c.error(y + step * v, p) - c.error(y - step * v, p)) / (2 * step)
               for v in np.eye(len(y))]  # fmt: skip
    assert_allclose(slope, numeric, atol=1e-9)


def test_finite_support_tends_to_infinite_support_as_one_over_p():
    limit = anil(support=np.inf)
    y = limit.initial_state()
    at = [anil(support=P).compiled.rhs(y, anil(support=P).parameters) for P in (1000, 2000)]
    gaps = [r - limit.compiled.rhs(y, limit.parameters) for r in at]
    assert_allclose(gaps[0], 2 * gaps[1], rtol=0.02, atol=1e-9)


@dataclass(frozen=True, kw_only=True)
class TwoRates(MetaRule):
    """Two steps on the head, at rates of their own."""

    name: ClassVar[str] = "two-rates"
    one: float = rate("rate of the first step")
    two: float = rate("rate of the second step")

    def adapt(self, network: Any, task: Any) -> Any:
        network = network.descend(task.support, head=self.one)
        return network.descend(task.support, head=self.two)


@pytest.mark.parametrize("order", ["first", "exact"])
def test_a_step_at_rate_zero_is_none(order):
    one = anil(order=order, inner_steps=1)
    y = one.initial_state()
    expected = one.compiled.rhs(y, one.parameters)
    for first, second in ((0.4, 0.0), (0.0, 0.4)):
        rule = TwoRates(one=first, two=second, outer_rate=1.0, head_rate=0.7, support=3,
                        regime="gradient-flow", order=order)  # fmt: skip
        two = BASE.replace(rule=rule)
        assert_allclose(two.compiled.rhs(y, two.parameters), expected, atol=1e-13)


@pytest.mark.parametrize("order", ["first", "exact"])
@pytest.mark.parametrize("inner", [{"name": "anil"}, {"name": "maml", "support_ratio": 2.0}])
def test_no_inner_step_is_average_risk(inner, order):
    rates = {"outer_rate": 1.0, "head_rate": 0.7, "query": 2}
    given = inner | rates | {"inner_rate": 0.4, "inner_steps": 0, "order": order}
    none, plain = (BASE.replace(rule=rule) for rule in (given, rates | {"name": "average-risk"}))
    y = plain.initial_state()
    expected = plain.compiled.rhs(y, plain.parameters)
    assert_allclose(none.compiled.rhs(y, none.parameters), expected, atol=1e-13)


def test_the_noise_of_a_rate_of_another_name_is_refused():
    rule = TwoRates(one=0.4, two=0.1, outer_rate=1.0, support=3)
    with pytest.raises(ExperimentError, match="several inner steps"):
        _ = BASE.replace(rule=rule).compiled

    @dataclass(frozen=True, kw_only=True)
    class OneRate(TwoRates):
        name: ClassVar[str] = "one-rate"

        def adapt(self, network: Any, task: Any) -> Any:
            return network.descend(task.support, head=self.one)

    streaming = OneRate(one=0.4, two=0.1, outer_rate=1.0, support=3)
    with pytest.raises(ExperimentError, match=r"at the rate rule\.inner_rate"):
        _ = BASE.replace(rule=streaming).compiled


def test_the_jacobian_is_that_of_differences():
    e = anil(order="first")
    y, p, c = e.initial_state(), e.parameters, e.compiled
    step = 1e-5
    numeric = [(c.rhs(y + step * v, p) - c.rhs(y - step * v, p)) / (2 * step)
               for v in np.eye(len(y))]  # fmt: skip
    assert_allclose(c.jacobian(y, p), np.transpose(numeric), atol=1e-9)

"""MAML on O(1) support examples is ANIL at leading order in 1/N: by derivation, and at finite N."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from solvers.simulation.closed_averages import pair_moments
from solvers.simulation.microscopic import sampled_task
from solvers.simulation.network import Inputs, outer_descent
from tests.flows.test_against_microscopic import SIMPLE, K, anil, experiment, maml
from theory.derivation.few_examples import corrections, leading, outer_step
from theory.errors import NoTheoryError
from theory.flow import derive, symbolic
from theory.rules import Anil, Maml
from theory.rules.base import REGIMES
from theory.statement import Structure

ORDERS = ("first", "exact")
P, V = 3, 2
RATES = {"outer_rate": 1.0, "inner_rate": 0.7, "support": P}


@pytest.mark.parametrize("order", ORDERS)
def test_the_expanded_update_is_that_of_the_head_alone(order):
    """Every c_ka, their products and the head's step, K = 3, P = V = 2, for any g and labels."""
    rules = Maml(order=order, representation_rate=0.5, **RATES), Anil(order=order, **RATES)
    moved, alone = (outer_step(symbolic(rule), units=K, support=2, query=2) for rule in rules)
    for name, values in moved.items():
        assert values != alone[name]
        assert tuple(map(leading, values)) == tuple(map(leading, alone[name]))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("regime", REGIMES)
def test_the_flow_is_that_of_anil_definition_by_definition(order, regime):
    for structure in (Structure(), Structure(blocks=True)):
        flow = derive(Maml(order=order, regime=regime, **RATES), structure)
        alone = derive(Anil(order=order, regime=regime, **RATES), structure)
        assert flow.program == alone.program
        assert flow.corrections == ("drift", "noise", "head")
        assert not alone.corrections


@pytest.mark.parametrize("order", ORDERS)
def test_rates_are_those_of_anil(order):
    of_maml = experiment(SIMPLE, maml(order, support=P))
    of_anil = experiment(SIMPLE, anil(order, rate=0.7, support=P))
    y = of_anil.initial_state()
    assert_array_equal(of_maml.compiled.rhs(y, of_maml.parameters),
                       of_anil.compiled.rhs(y, of_anil.parameters))  # fmt: skip


def test_what_moves_at_leading_order_is_refused():
    """Further steps see the support's own fields, which have moved by O(1): ξ_p·ξ_p/N = 1."""
    for steps in (2, 7):
        rule = Maml(inner_steps=steps, regime="gradient-flow", **RATES)
        with pytest.raises(NoTheoryError, match="several inner steps of the representation"):
            derive(rule, Structure(linear=True))

    class Queries(Maml):
        """Learns J from the queries that it is tested on."""

        def adapt(self, network, task):
            return network.descend(task.query, head=self.inner_rate, representation=0.5)

    with pytest.raises(NoTheoryError):
        corrections(Queries(**RATES))

    class Fitted(Maml):
        """A step on J, then the best head."""

        def adapt(self, network, task):
            return super().adapt(network, task).fit_head(task.support)

    with pytest.raises(NoTheoryError, match="a head fitted on a finite support"):
        derive(Fitted(**RATES))


def finite_step(study, N, samples, seed):
    """Σ_a c_ka x_a, Σ_ab c_ka c_lb ξ_a·ξ_b/N and the head's step at dimension N, (samples, …).

    Samples 2i and 2i + 1 differ by the sign of the part of the query inputs that the fields leave
    open: their mean has no part that is odd in it.
    """
    rng = np.random.default_rng(seed)
    moments = pair_moments(study.activation)
    network, bare = sampled_task(study, None, moments, samples, rng)
    x = np.concatenate([network.h, bare], axis=-1)[:, 0]
    Q, R, _ = study.layout.unpack(study.initial_state())
    C = np.block([[Q, R], [R.T, study.parameters["T"][0]]])
    E, n = x.shape[1:]
    size = N - n
    lower = np.tril(rng.standard_normal((samples, E, E)), -1)  # Bartlett's Wishart matrix
    lower += np.sqrt(rng.chisquare(size - np.arange(E), (samples, E)))[..., None] * np.eye(E)
    apart = lower @ lower.mT
    along = x @ np.linalg.solve(C, x.mT)
    sign = np.array([1.0] * P + [-1.0] * V)
    found = []
    for flip in (np.ones((E, E)), np.outer(sign, sign)):
        overlap = (along + flip * apart) / N
        task = replace(network.task, inner=Inputs(np.linalg.cholesky(overlap), (slice(0, E),)))
        down, _ = outer_descent(study.rule, replace(network, task=task))
        c = down.h[:, 0]
        found.append((c.mT @ x, c.mT @ overlap @ c, down.w))
    return [(first + second) / 2 for first, second in zip(*found, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
def test_the_difference_falls_as_one_over_N(order, effort):
    """Drift, noise and head of MAML less those of ANIL on the same examples, times N."""
    samples = int(200_000 * effort)
    of_maml = experiment(SIMPLE, maml(order, support=P))
    of_anil = experiment(SIMPLE, anil(order, rate=0.7, support=P))
    scaled = []
    for N in (200, 800, 3200):
        pairs = zip(*(finite_step(e, N, samples, N) for e in (of_maml, of_anil)), strict=True)
        gaps = [N * (first - second) for first, second in pairs]
        scaled.append([(g.mean(0), g.std(0) / np.sqrt(samples)) for g in gaps])
    for quantity in zip(*scaled, strict=True):
        (first, _), (middle, middle_error), (last, last_error) = quantity
        seen = np.unravel_index(np.abs(last / last_error).argmax(), last.shape)
        assert abs(last[seen]) > 10 * last_error[seen]  # there is a difference to be seen
        assert abs(first[seen] / last[seen] - 1) < 0.2  # at a sixteenth of the dimension
        z = (middle - last) / np.hypot(middle_error, last_error)
        assert np.abs(z).max() < 4, z

"""An activation of one's own, given by its values: averaged by cubature through the same flows."""

import numpy as np
import pytest

from solvers import Experiment
from solvers.simulation.microscopic import microscopic_rates
from theory.activations import Activation
from theory.quadrature import average

TANH = Activation(
    "own tanh",
    functions=(np.tanh, lambda x: 1 / np.cosh(x) ** 2, lambda x: -2 * np.tanh(x) / np.cosh(x) ** 2),
)
RULES = {
    "average-risk": {"name": "average-risk"},
    "anil": {"name": "anil", "inner_rate": 0.7},
    "anil at finite support": {"name": "anil", "inner_rate": 0.7, "support": 3},
}
BASE = Experiment.load("meta-specialization").replace(
    **{
        "model.activation": TANH,
        "integrate.backend": "numpy",
        "tasks.label_noise": 0.2,
        "initial.Q": [[0.5, 0.1], [0.1, 0.4]],
        "initial.R": [[0.3, 0.1], [-0.2, 0.2]],
    }
)


@pytest.mark.slow
@pytest.mark.parametrize("name", RULES)
def test_its_flow_is_that_of_the_update(name, effort):
    e = BASE.replace(rule=RULES[name] | {"outer_rate": 0.8, "head_rate": 0.5})
    y, p = e.initial_state(), e.parameters
    rates = microscopic_rates(e, samples=int(1_000_000 * effort), seed=3)
    expected = rates.flow(e)
    Q, R, w = e.layout.unpack(e.compiled.rhs(y, p))
    for key, value in (("Q", Q[None]), ("R", R[None]), ("w", w)):
        assert np.abs(expected[key].z(value)).max() < 4, key
    assert abs(rates.error.z(e.compiled.error(y, p))) < 4


@pytest.mark.parametrize("cross", [0.0, -1e-8, 1e-12])
def test_repeated_fields_that_are_nearly_independent(cross):
    """⟨g'_1 g'_2 g_2 g_1⟩ → ⟨g' g⟩² = 0, ⟨g'_1 g'_2 g_1²⟩ → ⟨g' g²⟩⟨g'⟩: fields given twice."""
    a = 0.249999993
    odd = average(((1,), (1,), (0,), (0,)), TANH, a, cross, cross, a, a, a, cross, a, cross, a)
    assert abs(float(odd)) < 1e-6
    even = average(((1,), (1,), (0, 0)), TANH, a, cross, a, a, cross, a)
    parts = average(((0, 0, 1),), TANH, a) * average(((1,),), TANH, a)
    assert float(even) == pytest.approx(float(parts), rel=1e-6)

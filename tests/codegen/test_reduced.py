"""Compiled reductions against the flow of all units, on both tiers and at any width."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from solvers.results import NumericalFailure, Status
from solvers.trajectories.reduced import integrate_reduction
from theory.activations import erf
from theory.codegen import compile_flow
from theory.generation.machine import available
from theory.overlaps import Layout
from theory.parameters import parameters
from theory.reduced import CompiledReduction, compile_reduction
from theory.rules import Anil, MetaRule, Rule, Sgd
from theory.rules.base import rate
from theory.tasks import TaskDistribution

RULES = {
    "sgd": Sgd(outer_rate=0.5, head_rate=0.2, weight_decay=0.1),
    "anil": Anil(outer_rate=0.5, inner_rate=1.0, head_rate=0.1),
    "exact": Anil(outer_rate=0.5, inner_rate=1.0, order="exact", head_rate=0.1),
    "population": Anil(outer_rate=0.5, inner_rate=1.0, regime="population"),
}
Y = np.array([0.6, 0.1, 0.3, 0.05, 0.7])


def alike(K: int, diagonal: float, other: float) -> np.ndarray:
    return other * np.ones((K, K)) + (diagonal - other) * np.eye(K)


def reduced(rule: Rule, K: int, backend: str = "numpy") -> tuple[CompiledReduction, dict]:
    flow = compile_reduction(rule, "site-symmetric", backend=backend)
    spread = {"head_variance": 0.3, "head_covariance": 0.1} if rule.adapts else {}
    return flow, flow.parameters(K=K, head_mean=0.8, label_noise=0.2, **spread)


@pytest.mark.parametrize("name", RULES)
def test_rates_and_error_are_those_of_all_units(name: str) -> None:
    K, rule = 3, RULES[name]
    flow, p = reduced(rule, K)
    layout, spread = Layout(K, K), alike(K, 0.3, 0.1) * rule.adapts
    tasks = TaskDistribution(np.full(K, 0.8), spread, None, 0.2)
    given = dict(parameters(rule, tasks, np.eye(K)))
    q, c, r, s, w = Y
    y = layout.pack(alike(K, q, c), alike(K, r, s), np.full(K, w))
    full = compile_flow(rule, layout, erf)
    dQ, dR, dw = layout.unpack(full.rhs(y, given))
    expected = [dQ[0, 0], dQ[0, 1], dR[0, 0], dR[0, 1], dw[0]]
    np.testing.assert_allclose(flow.rhs(Y, p), expected, rtol=0, atol=1e-14)
    assert flow.error(Y, p) == pytest.approx(full.error(y, given), abs=1e-14)


@pytest.mark.parametrize("name", ["sgd", "exact"])
def test_the_jacobian_is_that_of_differences_on_every_tier(name: str) -> None:
    """Central differences err by about 1e-10 here."""
    flow, p = reduced(RULES[name], 1000)
    steps = 1e-6 * np.eye(5)
    expected = np.stack([(flow.rhs(Y + h, p) - flow.rhs(Y - h, p)) / 2e-6 for h in steps], 1)
    jacobian = flow.jacobian(Y, p)
    np.testing.assert_allclose(jacobian, expected, rtol=0, atol=1e-8 * np.abs(jacobian).max())
    if available():
        loops, _ = reduced(RULES[name], 1000, "numba")
        assert loops.tier == "numba"
        for found, plain in (
            (loops.rhs(Y, p), flow.rhs(Y, p)), (loops.jacobian(Y, p), jacobian)
        ):  # fmt: skip
            np.testing.assert_allclose(found, plain, rtol=0, atol=1e-13 * np.abs(plain).max())


def test_a_thousand_units_take_no_other_source_than_two() -> None:
    (few, p), (many, q) = reduced(RULES["sgd"], 2), reduced(RULES["sgd"], 1000)
    assert few.source_of("flow") == many.source_of("flow")
    assert p["K"] == 2
    assert q["K"] == 1000


def test_what_is_missing_or_unknown_is_named() -> None:
    flow = compile_reduction(RULES["sgd"], "site-symmetric", backend="numpy")
    with pytest.raises(ValueError, match="head_mean"):
        flow.parameters(K=2)
    with pytest.raises(ValueError, match="temperature"):
        flow.parameters(K=2, head_mean=1.0, temperature=1.0)
    with pytest.raises(ValueError, match="site-symmetric"):
        compile_reduction(RULES["sgd"], "periodic")
    with pytest.raises(ValueError, match="Q, C, R, S, w"):
        integrate_reduction(flow, [1.0], flow.parameters(K=2, head_mean=1.0), 1.0)


@dataclass(frozen=True, kw_only=True)
class Own(MetaRule):
    """ANIL whose rate is called like an order parameter."""

    name: ClassVar[str] = "own"
    S: float = rate("rate of the head")

    def adapt(self, network: Any, task: Any) -> Any:
        return network.descend(task.support, head=self.S)


def test_rates_of_an_own_rule_may_be_called_like_order_parameters() -> None:
    own, p = reduced(Own(S=0.7, outer_rate=0.5), K=3)
    anil, q = reduced(Anil(inner_rate=0.7, outer_rate=0.5), K=3)
    np.testing.assert_allclose(own.rhs(Y, p), anil.rhs(Y, q), rtol=1e-14)
    faster = own.parameters(K=3, head_mean=0.8, S=0.9)
    assert (own.rhs(Y, faster) != own.rhs(Y, own.parameters(K=3, head_mean=0.8))).any()


def test_a_reduction_ends_with_the_statuses_of_every_trajectory() -> None:
    flow, start = compile_reduction(Sgd(outer_rate=300.0), "site-symmetric"), [1, 0, 0.1, 0, 1]
    p = flow.parameters(K=2, head_mean=1.0, label_noise=10.0)
    with pytest.raises(NumericalFailure, match=r"diverged: an entry of Q passed 1e6") as raised:
        integrate_reduction(flow, start, p, 1e8)
    run = raised.value.result
    assert run.status is Status.diverged
    assert 1e6 <= run["Q"][-1] < 2e6
    assert run.dataset["Q"].dims == ("time",)
    assert run.time[-1] == run.dataset["time"][-1] < 1e8
    steps = compile_reduction(RULES["population"], "site-symmetric")
    done = integrate_reduction(steps, Y.tolist(), steps.parameters(K=3, head_mean=0.8), 7.0)
    np.testing.assert_array_equal(done.time, np.arange(8.0))
    assert (done.status, done.evaluations["steps"]) == (Status.success, 7)

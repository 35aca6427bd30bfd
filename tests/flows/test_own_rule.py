"""A rule that the package does not ship: its statement alone gives its flow."""

from dataclasses import dataclass, make_dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from solvers import Experiment, ExperimentError, compare, integrate, simulate
from solvers.simulation.microscopic import microscopic_rates
from theory.generation.sources import _statement
from theory.rules.anil import Anil
from theory.rules.base import MetaRule, rate


@dataclass(frozen=True, kw_only=True)
class RidgeReptile(MetaRule):
    """The head is fitted with a ridge; the initial head moves towards the fitted ones."""

    name: ClassVar[str] = "ridge-reptile"
    ridge: float = rate("λ, ridge of the fitted head")

    def adapt(self, network: Any, task: Any) -> Any:
        return network.fit_head(task.support, ridge=self.ridge)

    def head_step(self, network: Any, adapted: Any, task: Any) -> Any:
        return adapted.head - network.head


@dataclass(frozen=True, kw_only=True)
class HeadReptile(Anil):
    """ANIL, but the initial head moves towards the adapted ones (Nichol et al. 2018)."""

    name: ClassVar[str] = "head-reptile"

    def head_step(self, network: Any, adapted: Any, task: Any) -> Any:
        return adapted.head - network.head


RATES = {"outer_rate": 1.0, "head_rate": 0.3, "query": 2}
RULES = {
    "ridge": RidgeReptile(ridge=0.1, **RATES),
    "ridge exact": RidgeReptile(ridge=0.1, order="exact", **RATES),
    "reptile": HeadReptile(inner_rate=1.0, **RATES),
    "reptile exact": HeadReptile(inner_rate=1.0, order="exact", **RATES),
    "reptile, 2 steps": HeadReptile(inner_rate=1.0, inner_steps=2, **RATES),
    "reptile, P = 3": HeadReptile(inner_rate=1.0, support=3, **RATES),
}
SCALE = np.array([[0.9, 0.2], [0.3, 0.7], [-0.5, 0.4]])
T = np.array([[1.1, 0.25], [0.25, 0.8]])


def study(rule, **tables):
    """K = 3, M = 2 with full matrices, so that a dropped index shows."""
    given = {
        "model": {"hidden": 3, "teacher_hidden": 2, "teacher_overlap": T.tolist()},
        "tasks": {
            "head_mean": [0.7, -0.4],
            "head_covariance": [[0.5, 0.2], [0.2, 0.4]],
            "label_noise": 0.4,
        },
        "initial": {
            "Q": (0.25 * SCALE @ T @ SCALE.T + 0.3 * np.eye(3)).tolist(),
            "R": (0.5 * SCALE @ T).tolist(),
            "w": [0.6, -0.5, 0.3],
        },
        "integrate": {"time": 5.0},
    }
    return Experiment(rule=rule, **{**given, **tables})


@pytest.mark.slow
@pytest.mark.parametrize("name", RULES)
def test_the_flow_is_the_mean_of_the_stated_update(name, effort):
    one = study(RULES[name])
    y = one.initial_state()
    estimate = microscopic_rates(one, samples=int(1_000_000 * effort), seed=list(RULES).index(name))
    found = estimate.flow(one)
    for key, rates in zip(
        "QRw", one.layout.unpack(one.compiled.rhs(y, one.parameters)), strict=True
    ):
        assert np.abs(found[key].z(rates)).max() < 4, key
    assert np.abs(estimate.error.z(one.compiled.error(y, one.parameters))) < 4


@pytest.mark.parametrize("name", ["ridge exact", "reptile exact"])
def test_its_jacobian_comes_with_it(name):
    one = study(RULES[name])
    y, p = one.initial_state(), one.parameters
    step = 1e-6
    numeric = np.array([
        (one.compiled.rhs(y + step * e, p) - one.compiled.rhs(y - step * e, p)) / (2 * step)
        for e in np.eye(len(y))
    ]).T  # fmt: skip
    # central differences: rounding 1e-16/step
    np.testing.assert_allclose(one.compiled.jacobian(y, p), numeric, atol=1e-8)


def test_without_a_ridge_it_is_the_frozen_representation():
    """The fitted head of the shipped rule is the limit; the head moves to the mean fitted head."""
    shipped = study(RULES["ridge"]).replace(
        rule={"name": "frozen-representation", "outer_rate": 1.0, "query": 2}
    )
    y = shipped.initial_state()
    limit = study(RidgeReptile(ridge=0.0, **RATES))
    for found, expected in zip(
        shipped.layout.unpack(limit.compiled.rhs(y, limit.parameters))[:2],
        shipped.layout.unpack(shipped.compiled.rhs(y, shipped.parameters))[:2],
        strict=True,
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


def test_its_page_names_its_own_rate():
    page = study(RULES["ridge"]).flow.latex()
    assert r"$\lambda$: ridge of the fitted head" in page
    assert page != study(RULES["reptile"]).flow.latex()


class Statement(MetaRule):
    """One step on the head."""

    name: ClassVar[str] = "statement"

    def adapt(self, network: Any, task: Any) -> Any:
        return network.descend(task.support, head=0.5)


class Nothing(Statement):
    def adapt(self, network: Any, task: Any) -> Any:
        network.descend(task.support, head=0.5)


class Clipped(Statement):
    def head_step(self, network: Any, adapted: Any, task: Any) -> Any:
        return np.clip(adapted.head, -1, 1)


class Counted(Statement):
    def head_step(self, network: Any, adapted: Any, task: Any) -> Any:
        return 1


class Moved(Statement):
    def adapt(self, network: Any, task: Any) -> Any:
        return network.descend(task.support, head=0.5, representation=0.3)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Nothing, "adapt returns None; return the adapted network"),
        (Clipped, "heads may be added, subtracted and multiplied by numbers"),
        (Counted, "head_step returns 1; return a step of the head"),
        (Moved, "set rule.support_ratio, or set rule.support"),
    ],
)
def test_a_statement_without_a_theory_is_refused(kind, reason):
    with pytest.raises(ExperimentError, match=reason):
        _ = study(kind(**RATES)).compiled


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("name", ["e", "k", "pi", "weight", "units", "error"])
def test_its_rates_may_bear_names_that_the_equations_use(name, backend):
    own: Any = make_dataclass(
        "Own", [(name, float, rate("rate of the head"))], bases=(MetaRule,), frozen=True,
        kw_only=True, namespace={
            "name": "own",
            "adapt": lambda self, net, task: net.descend(task.support, head=getattr(self, name)),
        },
    )  # fmt: skip
    one = study(own(**{name: 0.7}, **RATES), integrate={"time": 1.0, "backend": backend})
    anil = one.replace(rule=Anil(inner_rate=0.7, **RATES))
    y = one.initial_state()
    found, expected = (e.compiled.rhs(y, e.parameters) for e in (one, anil))
    np.testing.assert_allclose(found, expected, rtol=1e-13)


SHARE = 0.5


def shared(rate):
    return SHARE * rate


class Helped(Statement):
    def adapt(self, network: Any, task: Any) -> Any:
        return network.descend(task.support, head=shared(1.0))


@pytest.mark.parametrize(("name", "other"), [("SHARE", 0.25), ("shared", lambda rate: rate)])
def test_what_a_statement_reads_of_its_module_decides_its_equations(name, other, monkeypatch):
    """Sources are kept by it: a helper that changes makes others."""
    before = _statement(Helped)
    assert _statement(Helped) == before
    monkeypatch.setitem(Helped.adapt.__globals__, name, other)
    assert _statement(Helped) != before


@dataclass(frozen=True, kw_only=True)
class Decayed(MetaRule):
    """The head decays."""

    name: ClassVar[str] = "decayed"
    head_decay: float = rate("κ_h, decay of the head")
    slow_down: float = rate("what divides it")

    def head_step(self, network: Any, adapted: Any, task: Any) -> Any:
        return adapted.head_descent(task.query) - self.head_decay * network.head / self.slow_down


def test_a_limit_that_no_rate_has_is_refused():
    with pytest.raises(TypeError, match="no limit 'maximum'"):
        rate("share", maximum=1.0)


def test_its_page_writes_a_rate_as_the_rule_does():
    flow = study(Decayed(head_decay=0.1, slow_down=2.0, **RATES)).flow
    page, text = flow.latex(averages=False), flow.text(averages=False)
    assert r"$\kappa_{h}$: decay of the head" in page
    assert r"$\mathrm{slow\_down}$: what divides it" in page
    assert page.count(r"\kappa_{h}") == 2
    assert page.count(r"\mathrm{slow\_down}") == 2
    assert "kappa_h: decay of the head" in text
    assert "kappa_h*" in text.split("dw_k/dalpha")[1]


@pytest.mark.slow
def test_runs_at_finite_n_follow_it(effort):
    one = study(RULES["ridge"], simulate={"dimension": 200, "runs": max(3, int(40 * effort))})
    comparison = compare(integrate(one), simulate(one))
    # Student's t of few runs, beside deviations O(1/N) of the mean
    assert comparison.rms < 3
    wrong = study(RidgeReptile(ridge=0.5, **RATES))
    assert compare(integrate(wrong), simulate(one)).rms > 2 * comparison.rms

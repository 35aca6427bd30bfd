"""The compiled loops and the numpy code of one flow give the same numbers.

Their Jacobians are derived by different routes: in reverse, and along every direction.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from solvers import Experiment, integrate
from solvers.errors import ExperimentError
from theory import codegen
from theory.activations import erf, linear
from theory.codegen import CompiledFlow, compile_flow
from theory.gaussian.plackett import sign_moment
from theory.generation import machine
from theory.generation.machine import available, module_of, object_code
from theory.generation.native import UnsupportedError
from theory.generation.special import arcsin, arctan2
from theory.overlaps import Layout
from theory.parameters import parameters
from theory.rules import Anil, AverageRisk, Maml, Rule, Sgd
from theory.tasks import TaskDistribution

RULES = {
    "sgd": Sgd(outer_rate=0.5, head_rate=0.2, weight_decay=0.1),
    "average-risk": AverageRisk(outer_rate=0.5, head_rate=0.1),
    "anil": Anil(outer_rate=0.5, inner_rate=1.0, head_rate=0.1),
    "exact": Anil(outer_rate=0.5, inner_rate=1.0, order="exact", inner_steps=2),
    "population": Anil(outer_rate=0.5, inner_rate=1.0, regime="population"),
    "support": Anil(outer_rate=0.5, inner_rate=1.0, head_rate=0.1, support=3, regime="population"),
}


def both(rule: Rule, layout: Layout, **more: object) -> tuple[CompiledFlow, CompiledFlow]:
    compiled = compile_flow(rule, layout, more.get("activation", erf), backend="numba")  # type: ignore[arg-type]
    assert compiled.tier == "numba"
    return compiled, replace(compiled, backend="numpy")


def state(layout: Layout, variance: float, seed: int = 0) -> np.ndarray:
    """A random physical state whose fields have about this variance."""
    rng = np.random.default_rng(seed)
    K, M, L = layout.hidden, layout.teacher_hidden, layout.blocks or 1
    J = np.sqrt(variance / L) * rng.normal(size=(L, K, 50)) / np.sqrt(50)
    B = rng.normal(size=(L, M, 50)) / np.sqrt(50 * L)
    Q, R = J @ J.swapaxes(-1, -2), J @ B.swapaxes(-1, -2)
    if layout.blocks is None:
        Q, R = Q[0], R[0]
    return layout.pack(Q, R, rng.normal(size=K))


def given(rule: Rule, M: int, **more: object) -> dict[str, object]:
    tasks = TaskDistribution(np.linspace(0.5, 1.0, M), 0.1 * np.eye(M) + 0.05, None, 0.3)
    return dict(parameters(rule, tasks, np.eye(M), **more))  # type: ignore[arg-type]


def close_to(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference, relative to the largest term."""
    return float(np.abs(a - b).max() / np.abs(b).max())


@pytest.mark.parametrize("variance", [0.3, 10.0])
@pytest.mark.parametrize("name", RULES)
def test_tiers_agree(name: str, variance: float) -> None:
    rule, layout = RULES[name], Layout(3, 2)
    loops, arrays = both(rule, layout)
    p, y = given(rule, 2), state(layout, variance)
    assert close_to(loops.rhs(y, p), arrays.rhs(y, p)) < 1e-13
    assert loops.error(y, p) == pytest.approx(arrays.error(y, p), rel=1e-13)
    gradient = arrays.error_gradient(y, p)
    assert close_to(loops.error_gradient(y, p), gradient) < 1e-13
    jacobian = arrays.jacobian(y, p)
    assert close_to(loops.jacobian(y, p), jacobian) < 5e-13


@pytest.mark.slow
def test_exact_gradients_at_a_finite_support_agree() -> None:
    rule = Anil(outer_rate=0.5, inner_rate=1.0, support=3, order="exact", regime="gradient-flow")
    loops, arrays = both(rule, Layout(3, 2))
    p, y = given(rule, 2), state(Layout(3, 2), 10.0)
    assert close_to(loops.rhs(y, p), arrays.rhs(y, p)) < 1e-13
    assert close_to(loops.jacobian(y, p), arrays.jacobian(y, p)) < 5e-13


def test_wide_networks_agree() -> None:
    rule, layout = RULES["sgd"], Layout(9, 7)
    loops, arrays = both(rule, layout)
    p, y = given(rule, 7), state(layout, 10.0)
    assert close_to(loops.rhs(y, p), arrays.rhs(y, p)) < 1e-13


@pytest.mark.slow
@pytest.mark.parametrize("order", ["first", "exact"])
def test_flows_of_single_tasks_agree(order: str) -> None:
    """Their definitions read entries of one another at other pairs of units."""
    rule = Maml(outer_rate=0.5, inner_rate=1.0, support_ratio=2.0, order=order, nodes=3)
    layout = Layout(2, 2)
    loops, arrays = both(rule, layout)
    p, y = given(rule, 2), state(layout, 2.0)
    assert close_to(loops.rhs(y, p), arrays.rhs(y, p)) < 1e-13


def test_blocks_of_inputs_agree() -> None:
    rule, layout = RULES["sgd"], Layout(2, 3, blocks=2)
    loops, arrays = both(rule, layout)
    p = given(rule, 3, variance=np.array([0.4, 2.0]), fraction=np.array([0.5, 0.5]))
    p["T"] = p["TT"] = np.stack([0.5 * np.eye(3)] * 2)
    y = state(layout, 2.0)
    assert close_to(loops.rhs(y, p), arrays.rhs(y, p)) < 1e-13
    assert close_to(loops.jacobian(y, p), arrays.jacobian(y, p)) < 1e-13
    assert close_to(loops.jacobian(y, p), arrays.jacobian(y, p)) < 1e-12


def test_linear_networks_agree() -> None:
    loops, arrays = both(RULES["anil"], Layout(3, 2), activation=linear)
    p, y = given(RULES["anil"], 2), state(Layout(3, 2), 1.0)
    assert close_to(loops.rhs(y, p), arrays.rhs(y, p)) < 1e-13


def test_changed_parameters_are_read() -> None:
    loops, arrays = both(RULES["sgd"], Layout(2, 2))
    p, y = given(RULES["sgd"], 2), state(Layout(2, 2), 1.0)
    loops.rhs(y, p)
    for change in ({"outer_rate": 3.0}, {"TT": p["TT"] * 2.0}):  # type: ignore[operator]
        p = {**p, **change}
        assert close_to(loops.rhs(y, p), arrays.rhs(y, p)) < 1e-13


def test_damaged_machine_code_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MACRODYN_CACHE", str(tmp_path))
    rule = replace(RULES["sgd"], weight_decay=0.0)
    p, y = given(rule, 2), state(Layout(2, 2), 1.0)

    def anew() -> np.ndarray:
        machine.kernel.cache_clear()
        codegen._shared.cache_clear()
        return both(rule, Layout(2, 2))[0].rhs(y, p)

    first = anew()
    (made,) = tmp_path.glob("*.o")
    made.write_bytes(made.read_bytes()[:-100])
    again = anew()
    np.testing.assert_array_equal(again, first)


@pytest.mark.parametrize("backend", ["auto", "numpy", "numba"])
def test_runs_agree(backend: str) -> None:
    settings = {"integrate.backend": backend, "integrate.time": 20.0, "integrate.method": "LSODA"}
    experiment = Experiment.load("saad-solla").replace(**settings)
    assert experiment.compiled.tier == ("numpy" if backend == "numpy" else "numba")
    plain = integrate(experiment.replace(**{"integrate.backend": "numpy"}))
    np.testing.assert_allclose(integrate(experiment).Q, plain.Q, rtol=0, atol=1e-9)


def test_what_has_no_loops_is_said() -> None:
    experiment = Experiment.load("saad-solla").replace(**{"model.activation": "relu"})
    assert experiment.compiled.tier == "numpy"
    with pytest.raises(ExperimentError, match="relu are not lowered to loops"):
        _ = experiment.replace(**{"integrate.backend": "numba"}).compiled


@pytest.mark.parametrize("x", [0.0, 1e-300, 0.3, 0.5, 0.999999, 1.0, -0.7, -1.0])
def test_arcsine(x: float) -> None:
    assert arcsin(x) == pytest.approx(math.asin(x), rel=5e-16, abs=0)  # two ulps


@pytest.mark.parametrize("angle", [0.0, 1e-9, 0.7, 0.78, 0.8, np.pi / 2, 3.0, -0.2, -2.0])
def test_angle(angle: float) -> None:
    found = arctan2(3.0 * math.sin(angle), 3.0 * math.cos(angle))
    assert found == pytest.approx(angle, rel=1e-15, abs=1e-16)


@pytest.mark.parametrize("independent", [1.0, 1e-2, 1e-4])
def test_sign_moments(independent: float, tmp_path: Path) -> None:
    """The loop over nodes and the arrays take the same ones; worse where fields nearly coincide."""
    rng = np.random.default_rng(1)
    common = rng.normal(size=(200, 4, 2))
    C = common @ common.swapaxes(-1, -2) + independent * np.eye(4)
    spread = np.sqrt(C.diagonal(axis1=1, axis2=2))
    rows, columns = np.triu_indices(4, 1)
    rho = (C / spread[:, :, None] / spread[:, None, :])[:, rows, columns]
    text = (
        "SHAPES = {}\n\n\ndef flow(state, out):\n"
        f"    out[0] = sign_moment({', '.join(f'state[{i}]' for i in range(6))})\n"
    )
    made = machine.kernel(text, "flow", (("Y", 6),), tmp_path)

    def loop(state: np.ndarray) -> float:
        out, rest = np.empty(6), np.empty(1)
        made.function(*(a.ctypes.data for a in (np.ascontiguousarray(state), rest, rest, out)))
        return float(out[0])

    found = np.array([loop(row) for row in rho])
    np.testing.assert_allclose(found, sign_moment(*rho.T), rtol=0, atol=2e-14 / independent)
    assert np.isnan(loop(np.array([0.9, 0.9, 0.9, -0.9, -0.9, -0.9])))


@pytest.mark.parametrize("length", [1, 3, 64])
def test_reciprocal_root(length: int, tmp_path: Path) -> None:
    """Alone and in vectors, from the processor's guess, to three units in the last place."""
    text = (
        "SHAPES = {}\n\n\ndef flow(state, out):\n"
        "    for i in range(Y):\n        out[i] = rsqrt(state[i])\n"
    )
    made = machine.kernel(text, "flow", (("Y", length),), tmp_path)
    out, rest = np.empty(length), np.empty(1)
    for begin in np.logspace(-30, 30, 601):
        x = begin * np.linspace(1.0, 4.0, length)
        made.function(*(a.ctypes.data for a in (x, rest, rest, out)))
        np.testing.assert_allclose(out, 1 / np.sqrt(x), rtol=3 * np.finfo(float).eps)
    negative = np.full(length, -2.0)
    made.function(*(a.ctypes.data for a in (negative, rest, rest, out)))
    assert np.isnan(out).all()


def test_an_llvmlite_that_is_too_old_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "version", lambda _: "0.44.0")
    available.cache_clear()
    try:
        assert not available()
    finally:
        available.cache_clear()


def test_machine_code_comes_from_the_text_alone() -> None:
    text = (
        "SHAPES = {'a': ('K',)}\n\n\ndef flow(state, a, out):\n    t = 0.0\n"
        "    for k in range(K):\n        t += a[k]*state[k]\n    out[0] = t\n"
    )
    assert available()
    assert len(object_code(module_of(text, {"K": 3})[0])) > 0
    with pytest.raises(UnsupportedError, match="gamma"):
        module_of(text.replace("a[k]*", "gamma(a[k])*"), {"K": 3})

"""The noise at a finite support in compiled loops: the same as by numpy, and its functions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import erf as error_function

from solvers.trajectories.steps import follow
from theory.activations import erf, polynomial
from theory.codegen import CompiledFlow, compile_flow
from theory.finite.block_sums import BLOCK, dots, products
from theory.finite.lattice_loop import eigen
from theory.generation.machine import module_of
from theory.generation.native import UnsupportedError
from theory.generation.special import erf_given, exp
from theory.overlaps import Layout
from theory.parameters import parameters
from theory.rules import Anil
from theory.tasks import TaskDistribution


def study(
    K: int, M: int, order: str, size: float = 1.0, blocks: int | None = None
) -> tuple[CompiledFlow, CompiledFlow, dict[str, Any], np.ndarray]:
    """Loops, arrays, parameters and a state for which all indices and factors matter."""
    rule = Anil(
        outer_rate=0.7, inner_rate=1.1, head_rate=0.2, support=3, query=2, tasks_per_step=2,
        order=order,
    )  # fmt: skip
    rng = np.random.default_rng(K + M)
    layout = Layout(K, M, blocks=blocks)
    J = rng.normal(size=(blocks or 1, K, 9)) * np.sqrt(size) / 3
    B = rng.normal(size=(blocks or 1, M, 9)) / 3
    Q, R, T = J @ J.swapaxes(1, 2), J @ B.swapaxes(1, 2), B @ B.swapaxes(1, 2)
    tasks = TaskDistribution(np.linspace(0.5, 1.0, M), 0.1 * np.eye(M) + 0.05, None, 0.3)
    variance, fraction = (np.array([0.4, 1.6]), np.full(2, 0.5)) if blocks else (None, None)
    p = parameters(rule, tasks, T, variance, fraction)
    y = layout.pack(*((Q, R) if blocks else (Q[0], R[0])), rng.normal(size=K))
    loops, arrays = (compile_flow(rule, layout, erf, backend=b) for b in ("auto", "numpy"))
    return loops, arrays, p, y


@pytest.mark.parametrize("order", ["first", "exact"])
@pytest.mark.parametrize(("K", "M"), [(1, 2), (2, 1), (3, 1)])
def test_loops_and_arrays_agree(K: int, M: int, order: str) -> None:
    loops, arrays, p, y = study(K, M, order, size=3.0)
    assert loops.tier == "numba"
    expected = arrays.rhs(y, p)
    assert_allclose(loops.rhs(y, p), expected, rtol=0, atol=1e-13 * np.abs(expected).max())
    assert_allclose(loops.jacobian(y, p), arrays.jacobian(y, p), rtol=0, atol=0)
    estimate = arrays.noise_estimate(y, p)
    assert loops.noise_estimate(y, p) == pytest.approx(estimate, rel=1e-6, abs=1e-13)


def test_blocks_of_inputs_agree() -> None:
    loops, arrays, p, y = study(2, 1, "exact", blocks=2)
    expected = arrays.rhs(y, p)
    assert_allclose(loops.rhs(y, p), expected, rtol=0, atol=1e-13 * np.abs(expected).max())


def test_the_flow_is_the_same_within_the_step_loop() -> None:
    loops, _, p, y = study(2, 3, "first", size=3.0)
    steps = follow(loops, p, y, 0.1, rtol=1e-6, atol=1e-9, bound=1e6, bounded=3, most=1000)
    rate = loops.bound("flow", p)
    assert_array_equal(steps.rate, [rate(state) for state in steps.y])


def test_sizes_known_beforehand_are_no_other_numbers() -> None:
    fill = "def fill(K: int, a: Array) -> None:\n    a[0] = K\n\n\n"
    flow = "SHAPES = {}\n\n\ndef flow(state, out):\n    fill(3, out)\n"
    with pytest.raises(ValueError, match="fill: K is a size"):
        module_of(fill + flow, {"K": 2, "Y": 1})
    assert "i64 3" in module_of(fill.replace("K", "k") + flow, {"K": 2, "Y": 1})[0]


def test_fields_that_coincide_agree_and_what_is_no_covariance_has_no_noise() -> None:
    loops, arrays, p, _ = study(2, 2, "first")
    p["T"] = p["TT"] = np.eye(2)
    layout = Layout(2, 2)
    perfect = layout.pack(np.eye(2), np.eye(2), np.ones(2))
    assert_allclose(loops.rhs(perfect, p), arrays.rhs(perfect, p), rtol=0, atol=1e-14)
    beyond = layout.pack(np.eye(2), 1.1 * np.eye(2), np.ones(2))
    assert np.isnan(loops.rhs(beyond, p)).any()
    assert np.isnan(loops.rhs(np.full_like(perfect, np.inf), p)).any()
    assert np.isnan(loops.rhs(np.full_like(perfect, 1e200), p)).any()


def test_what_has_no_loops_is_left_to_numpy() -> None:
    rule = Anil(outer_rate=0.5, inner_rate=1.0, support=3)
    cubic = polynomial([0, 1, 0, 0.1])
    assert compile_flow(rule, Layout(2, 2), cubic, backend="auto").tier == "numpy"
    assert compile_flow(rule, Layout(7, 1), erf, backend="auto").tier == "numpy"
    with pytest.raises(UnsupportedError, match="K > 6"):
        compile_flow(rule, Layout(7, 1), erf, backend="numba").tier  # noqa: B018
    closed = Anil(outer_rate=0.5, inner_rate=1.0, support=3, noise="gaussian-closure")
    assert compile_flow(closed, Layout(2, 2), erf, backend="auto").tier == "numpy"


@pytest.mark.parametrize("x", [0.0, 1e-9, -0.3, 0.7, -1.9, 3.5, 5.0, -8.0, 40.0])
def test_error_function(x: float) -> None:
    gauss = exp(-0.5 * x * x)
    assert gauss == pytest.approx(math.exp(-0.5 * x * x), rel=1e-15, abs=1e-307)
    assert erf_given(x, gauss) == pytest.approx(error_function(x / 2**0.5), rel=0, abs=1e-15)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_eigenvalues_of_a_symmetric_matrix(shift: float, rng: np.random.Generator) -> None:
    A = rng.normal(size=(5, 5))
    A = A @ np.diag([1, 1e-3, 0, 0, 2]) @ A.T + shift * np.eye(5)
    values, vectors = np.zeros(5), np.zeros(25)
    eigen(5, A.ravel().copy(), values, vectors)
    V = vectors.reshape(5, 5)
    assert_allclose(np.sort(values), np.linalg.eigvalsh(A), rtol=0, atol=1e-14 * np.abs(A).max())
    assert_allclose(V * values @ V.T, A, rtol=0, atol=3e-14 * np.abs(A).max())
    assert_allclose(V.T @ V, np.eye(5), rtol=0, atol=1e-14)


def test_products_of_units_are_those_of_sorted_indices(rng: np.random.Generator) -> None:
    g = rng.normal(size=(3, BLOCK))
    two, three = np.zeros((6, BLOCK)), np.zeros((10, BLOCK))
    products(3, 2, g.ravel(), g.ravel(), two.ravel())
    products(3, 3, g.ravel(), two.ravel(), three.ravel())
    sorted_three = [(k, l, m) for k in range(3) for l in range(k + 1) for m in range(l + 1)]
    assert_allclose(three, [g[k] * g[l] * g[m] for k, l, m in sorted_three], rtol=1e-15)
    sums = np.ones(11)
    dots(g.ravel(), 1, three.ravel(), 10, 1, sums)
    assert_allclose(sums, [1.0, *(1.0 + three @ g[1])], rtol=1e-13)

"""The flow that a reader reimplements from the printed page alone is the one that runs."""

import re
from typing import Any

import numpy as np
import pytest

from solvers.trajectories.evaluation import at_test_time, evaluation_error
from tests.algebra.page_reader import Page, sections
from tests.algebra.test_reductions import STATE, full_rates
from tests.flows.test_against_microscopic import (
    BLOCKS,
    CUBIC,
    FINITE,
    LINEAR,
    ONE,
    SIMPLE,
    SPREAD,
    adapted,
    anil,
    experiment,
    frozen,
    maml,
)
from theory.activations import erf, linear
from theory.ansatz import ANSAETZE, reduce
from theory.flow import derive
from theory.notation import NAMES
from theory.parameters import parameters
from theory.printed_reduction import page
from theory.rules import Anil, Sgd
from theory.statement import Structure
from theory.tasks import TaskDistribution

INF = np.inf
OUTER: dict[str, Any] = {"outer_rate": 0.7, "head_rate": 0.3}
LINEAR_BLOCKS = {**BLOCKS, "model": {**BLOCKS["model"], "activation": "linear"}}
CASES = {
    "sgd": (ONE, {"name": "sgd", "weight_decay": 0.3}, "streaming"),
    "average-risk": (SPREAD, {"name": "average-risk", "query": 3}, "streaming"),
    "average-risk, cubic": (CUBIC, {"name": "average-risk"}, "streaming"),
    "average-risk, blocks": (BLOCKS, {"name": "average-risk"}, "streaming"),
    "average-risk, heads": (FINITE, {"name": "average-risk"}, "streaming"),
    "anil first, 3 steps": (SIMPLE, anil(inner_steps=3), "population"),
    "anil first, blocks": (BLOCKS, anil(inner_steps=2), "streaming"),
    "anil exact": (SIMPLE, anil("exact", tasks_per_step=2), "streaming"),
    "anil first, P": (SPREAD, anil(support=3), "streaming"),
    "anil exact, P": (SIMPLE, anil("exact", support=3), "streaming"),
    "anil exact, P, 2 steps": (LINEAR, anil("exact", support=3, inner_steps=2), "gradient-flow"),
    "maml exact, P": (SIMPLE, maml("exact", support=3), "gradient-flow"),
    "maml first, ρ": (BLOCKS, maml(support_ratio=2.0), "streaming"),
    "maml exact, ρ": (SIMPLE, maml("exact", support_ratio=2.0), "streaming"),
    "maml exact": (FINITE, maml("exact", support_ratio=INF, inner_steps=2), "population"),
    "frozen exact": (SIMPLE, frozen("exact"), "streaming"),
    "frozen, blocks": (BLOCKS, frozen(), "gradient-flow"),
    "adapt, blocks": (LINEAR_BLOCKS, adapted("exact"), "streaming"),
}  # fmt: skip


def read(study, flow=None):
    """The page's own numbers, from the parameters that it names."""
    flow = flow or study.flow
    p, layout = study.parameters, study.layout
    y = study.initial_state()
    Q, R, w = layout.unpack(y)
    lead = "b" if layout.blocks else ""
    T, TT = (p[name] if layout.blocks else np.reshape(p[name], R.shape[-1:] * 2)
             for name in ("T", "TT"))  # fmt: skip
    inputs = [
        ("Q", lead + "kl", Q), ("R", lead + "kn", R), ("w", "k", w),
        ("T", lead + "mn", T), ("T'", lead + "mn", TT),
        ("⟨ûû⟩", "xz", p["U"]), ("⟨û⟩", "x", p["mean_task"]), ("δ⁰", "x", p["constant"]),
        ("δ", "nx", p["unit"]), ("u", "tn", p["heads"]), ("u", "n", p["teacher_head"]),
        ("p", "t", p["weight"]), ("û", "tx", p["task_vector"]),
    ]  # fmt: skip
    if layout.blocks:
        inputs += [("λ", "b", p["variance"]), ("f", "b", p["fraction"])]
    if "S_finite" in flow.program.inputs:
        inputs.append(("S", "kl", study.compiled.finite_noise(y, p)))
    scalars = {NAMES[name][1]: p[name] for name in flow.scalars}
    sizes = {"K": len(w), "M": R.shape[-1], "t": len(p["heads"]), "b": layout.blocks or 1}
    page = flow.unicode()
    for symbol in scalars:
        assert f"{symbol}: " in page.split("Definitions\n")[0], symbol
    return Page(page, sizes, inputs, scalars).values


@pytest.mark.parametrize("case", CASES)
def test_the_page_alone_gives_the_flow(case):
    tables, rule, regime = CASES[case]
    study = experiment(tables, rule, regime, rates=0.7)
    study = study.replace(**{"integrate.backend": "numpy"})
    values = read(study)
    y = study.initial_state()
    dQ, dR, dw = study.layout.unpack(study.compiled.rhs(y, study.parameters))
    lead = "b" if study.layout.blocks else ""
    for name, rate in (("Q", dQ), ("R", dR), ("w", dw)):
        found = values[f"d{name}", rate.ndim, lead if name != "w" else ""]
        np.testing.assert_allclose(found, rate, rtol=1e-10, atol=1e-12, err_msg=name)
    error = study.compiled.error(y, study.parameters)
    np.testing.assert_allclose(values["ε", 0, ""], error, rtol=1e-10)


def test_the_page_of_another_adaptation_gives_the_error_at_test_time():
    settings = {"support": 4, "inner_steps": 1, "inner_rate": 0.4}
    study = experiment(SIMPLE, anil(), "streaming", rates=0.7).replace(evaluate=settings)
    tested = at_test_time(study)
    flow = tested.flow.error_alone
    assert not {"dQ", "dR", "dw"} & {d.name for d in flow.definitions}
    (error,), warnings = evaluation_error(study, study.initial_state()[None])
    assert not warnings
    np.testing.assert_allclose(read(tested, flow)["ε", 0, ""], error, rtol=1e-10)


REDUCED = {
    "sgd, site-symmetric": (Sgd(outer_rate=0.7, head_rate=0.3, weight_decay=0.2), 4, 4, erf),
    "anil first, specialised": (Anil(inner_rate=0.6, **OUTER), 5, 3, erf),
    "anil exact, site-symmetric": (Anil(inner_rate=0.6, order="exact", **OUTER), 4, 4, erf),
    "two steps, site-symmetric": (
        Anil(inner_rate=0.6, inner_steps=2, support=3, regime="gradient-flow", **OUTER), 4, 4,
        linear,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REDUCED)
def test_the_reduced_page_alone_gives_its_rates(case):
    """Line after line, with nothing but the state, the parameters and arithmetic."""
    rule, k, m, activation = REDUCED[case]
    flow = derive(rule, Structure(linear=activation == linear))
    text = page(reduce(flow, ANSAETZE[case.split(", ")[1]], activation), latex=False)
    p = parameters(rule, TaskDistribution(np.full(m, 0.8), 0.2 * np.eye(m) + 0.1, None, 0.3),
                   np.eye(m))  # fmt: skip
    if rule.one_task:
        p |= {"U": np.outer([1, *[0.8] * m], [1, *[0.8] * m])}
    known = {NAMES[name][1]: p[name] for name in flow.scalars}
    known |= {"u_0": 0.8, "v_d": p["U"][1, 1] - 0.64, "v_o": p["U"][1, 2] - 0.64, "T": 1.0,
              "T_o": 0.0, "δ": 0.0, "K": k, "M": m, **STATE}  # fmt: skip
    for left, _, right in (line for part in sections(text).values() for line in part):
        names = sorted(known, key=len, reverse=True)
        token = re.compile(rf"({'|'.join(map(re.escape, names))})(?![\w'⁽])")
        space = {f"v{i}": known[name] for i, name in enumerate(names)}
        code = token.sub(lambda found, n=names: f"v{n.index(found[1])}", right)
        scope = {"asin": np.arcsin, "sqrt": np.sqrt, "pi": np.pi, **space}
        known[left] = eval(code, scope)  # noqa: S307, as the page is ours
    expected = full_rates(rule, k, m, p, activation)
    assert known["ε"] == pytest.approx(expected.pop("error"), rel=1e-10)
    found = {name: known[f"d{name}/dα"] for name in expected}
    assert found == pytest.approx(expected, rel=1e-10, abs=1e-13)

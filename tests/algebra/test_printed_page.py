"""The flow that a reader reimplements from the printed page alone is the one that runs."""

import numpy as np
import pytest

from tests.algebra.page_reader import Page
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
from theory.notation import NAMES

INF = np.inf
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


def read(study):
    """The page's own numbers, from the parameters that it names."""
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
        ("δ", "nx", p["unit"]), ("u", "tn", p["heads"]), ("p", "t", p["weight"]),
        ("û", "tx", p["task_vector"]),
    ]  # fmt: skip
    if layout.blocks:
        inputs += [("λ", "b", p["variance"]), ("f", "b", p["fraction"])]
    if "S_finite" in study.flow.program.inputs:
        inputs.append(("S", "kl", study.compiled.finite_noise(y, p)))
    scalars = {NAMES[name][1]: p[name] for name in study.flow.scalars}
    sizes = {"K": len(w), "M": R.shape[-1], "t": len(p["heads"]), "b": layout.blocks or 1}
    page = study.flow.unicode()
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

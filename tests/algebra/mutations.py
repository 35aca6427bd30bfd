"""Changes one constant or index of a derivation at a time and shows that a fast test notices.

Run as a script it prints one line per mutation and exits 1 if one survives. Every mutation is made
in a temporary copy of the packages and of the tests it is tried against.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FORMS = "tests/algebra/test_closed_forms.py"
OTHERS = "tests/algebra/test_activations.py"
SIGNS = "tests/algebra/test_sign_moments.py"
FLOWS = "tests/flows/test_against_quadrature.py"
STEPS = "tests/flows/test_several_steps.py"
FEW = "tests/flows/test_few_examples.py"

MUTATIONS = (
    # file, text, what it becomes, the tests that have to notice
    ("theory/gaussian/closed_forms.py", "norm = (2 / pi) **", "norm = (1 / pi) **", FORMS),
    ("theory/gaussian/closed_forms.py", "return norm * 2 / pi * sympy.asin",
     "return norm * sympy.asin", FORMS),
    ("theory/gaussian/closed_forms.py", "matrix[-1][p] = -tilt[p][1]",
     "matrix[-1][p] = tilt[p][1]", FORMS),
    ("theory/gaussian/closed_forms.py", "[*row, C[s, f]]", "[*row, C[s, e]]", FORMS),
    ("theory/gaussian/closed_forms.py", "border = [C[e, s]", "border = [C[f, s]", FORMS),
    ("theory/gaussian/closed_forms.py", "(a if p == q else 0)", "(2 * a if p == q else 0)", FORMS),
    ("theory/gaussian/closed_forms.py", "(-1) ** swaps", "1 ** swaps", FORMS),
    ("theory/gaussian/closed_forms.py", "yield Integer(powers[b])", "yield Integer(1)", FORMS),
    ("theory/gaussian/closed_forms.py", "(1 - k) * determinant", "(2 - k) * determinant", OTHERS),
    ("theory/gaussian/closed_forms.py", "bordered(n, tilt, j, b) / volume",
     "bordered(n, tilt, b, b) / volume", FORMS),
    ("theory/gaussian/integrands.py", "width = 1 / (2 * scale**2)", "width = 1 / scale**2", FORMS),
    ("theory/gaussian/integrands.py", "sqrt(sympy.pi / (2 * pivot))",
     "sqrt(sympy.pi / pivot)", FORMS),
    ("theory/gaussian/integrands.py", "(1 + sympy.sign(u)) / 2", "(1 + sympy.sign(u))", OTHERS),
    ("theory/averages.py", "Rational(1, 2) if i == j", "S.One if i == j", FORMS),
    ("theory/averages.py", "orders[p] + 1", "orders[p] + 2", FORMS),
    ("theory/activations.py", "sympy.erf(x / sympy.sqrt(2))", "sympy.erf(x)", FORMS),
    ("theory/gaussian/sign_moments.py", "cross + rho * mixed", "cross - rho * mixed", SIGNS),
    ("theory/gaussian/sign_moments.py", "(t * M[0, j]) ** 2", "t * M[0, j] ** 2", SIGNS),
    ("theory/gaussian/plackett.py", "other * one * one", "other * one", SIGNS),
    ("theory/gaussian/plackett.py", "return 4 / np.pi**2", "return 2 / np.pi**2", SIGNS),
    ("theory/gaussian/plackett.py", "(0, 3, 4, 1, 2, 5)", "(0, 3, 4, 2, 1, 5)", SIGNS),
    ("theory/quadrature.py", "r[:, None] ** np.arange(nodes)",
     "r[:, None] ** np.arange(1, nodes + 1)", FORMS),
    ("theory/derivation/closed.py", "1 + vl - p_l**2", "1 + vl + p_l**2", FLOWS),
    ("theory/derivation/closed.py", "lc - p_l * p", "lc - p_l**2", FLOWS),
    ("theory/derivation/closed.py", "kc / sympy.sqrt(1 + vk)", "kc / sympy.sqrt(1 + vc)", FLOWS),
    ("theory/derivation/noise.py", "s[unit] for unit in units",
     "s[units[0]] for _ in units", FLOWS),
    ("theory/flow.py", "rate += eta**2 * noise", "rate += eta * noise", FLOWS),
    ("theory/flow.py", "T[(*block, m, n)]", "T[(*block, n, n)]", FLOWS),
    ("theory/flow.py", "adjoint[(*over, k, a)] + adjoint[(*over, a, k)]",
     "adjoint[(*over, k, a)]", FLOWS),
    ("theory/derivation/symbolic_network.py", "-network.head_base[self.at(k)]",
     "network.head_base[self.at(k)]", FLOWS),
    ("theory/derivation/microscopic.py", "return delta**2 / 2", "return delta**2", FLOWS),
    ("theory/rules/anil.py", "range(self.inner_steps)", "range(1)", FLOWS),
    ("theory/derivation/wishart.py", "add((*turned[::-1], *chain), others, 1)", "pass", STEPS),
    ("theory/derivation/wishart.py", "(-eta * c for c in p)", "(eta * c for c in p)", STEPS),
    ("theory/derivation/finite_head.py", "rate**2 / derivation.support",
     "rate / derivation.support", STEPS),
    ("theory/derivation/few_examples.py", "entry.indices[0] == entry.indices[1]", "0", FEW),
    ("theory/derivation/few_examples.py", "representation * overlap *", "representation *", FEW),
)  # fmt: skip
"""At least one per rule of averaging, and the places where a flow's constants and indices stand."""


def survivors() -> Iterator[tuple[str, bool]]:
    """(description, survived) of each mutation, and of the unchanged copy, which must pass."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        for part in ("theory", "solvers", "tests/algebra", "tests/flows"):
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        for part in ("pyproject.toml", "tests/conftest.py"):
            shutil.copy(ROOT / part, copy / part)
        for tests in (FORMS, OTHERS, SIGNS, FLOWS, STEPS, FEW):
            yield f"unchanged: {tests}", not passes(copy, tests)
        for name, text, mutated, tests in MUTATIONS:
            path = copy / name
            source = path.read_text(encoding="utf-8")
            path.write_text(source.replace(text, mutated), encoding="utf-8")
            yield f"{name}: {text}  →  {mutated}", passes(copy, tests)
            path.write_text(source, encoding="utf-8")


def passes(copy: Path, tests: str) -> bool:
    """Whether the tests pass in the copy."""
    environment = {**os.environ, "PYTHONPATH": str(copy), "MACRODYN_CACHE": str(copy / "cache"),
                   "PYTHONDONTWRITEBYTECODE": "1"}  # fmt: skip
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", tests]
    run = subprocess.run(command, cwd=copy, env=environment, capture_output=True, check=False)
    if run.returncode not in (0, 1):
        raise RuntimeError(run.stdout.decode()[-2000:])
    return run.returncode == 0


if __name__ == "__main__":
    alive = 0
    for description, survived in survivors():
        alive += survived
        good = "passes  " if description.startswith("unchanged") else "caught  "
        print("WRONG   " if survived else good, description, flush=True)
    raise SystemExit(1 if alive else 0)

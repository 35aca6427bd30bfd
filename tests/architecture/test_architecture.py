"""The rules of the house, read from the sources."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("theory", "solvers")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
SOURCES = MODULES + sorted((ROOT / "tests").rglob("*.py"))
OTHERS = (
    "*.md",
    "*.toml",
    "*.txt",
    "*.cff",
    "Makefile",
    ".ci/run",
    "*/presets/*.toml",
    "*/*.ipynb",
)
TEXTS = SOURCES + sorted(path for pattern in OTHERS for path in ROOT.glob(pattern))

HOSTS_AND_HOMES = re.compile(
    r"/(?:root|home|work|Users)/\w|local[h]ost|file:[/]|[.]example\b|pypi[.]|https?:[/]{2}\d"
)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=name(path))


def imports(path: Path) -> list[str]:
    """Absolute dotted names of all that a module imports when it runs, inside functions too."""
    found: list[str] = []
    nodes: list[ast.AST] = [tree(path)]
    for node in nodes:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        nodes += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}: relative import"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def forbidden(path: Path) -> list[str]:
    """Constructs that the house refuses, as "line: construct"."""
    found = []
    for node in ast.walk(tree(path)):
        match node:
            case ast.Call(func=ast.Name(id="eval" | "parse_expr" as called)):
                found.append(f"{node.lineno}: {called}")
            case ast.Call(func=ast.Name(id="exec")) if path.stem != "sources":
                found.append(f"{node.lineno}: exec outside code generation")
            case ast.Call(
                func=ast.Name(id="sympify") | ast.Attribute(attr="sympify"), keywords=keywords
            ) if not any(keyword.arg == "strict" for keyword in keywords):
                found.append(f"{node.lineno}: sympify that would parse a string")
            case ast.Attribute(value=ast.Name(id="np"), attr="clip"):
                found.append(f"{node.lineno}: np.clip")
            case ast.ExceptHandler(type=None):
                found.append(f"{node.lineno}: bare except")
    modules = {found.split(".")[0] for found in imports(path)}
    return found + sorted(modules & {"pickle", "dill", "marshal", "shelve", "pdb"})


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_files_and_functions_stay_short(path):
    assert len(path.read_text().splitlines()) < 400
    functions = [node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef)]
    long = {f.name for f in functions if (f.end_lineno or 0) - f.lineno >= 80}
    assert not long - {"adams"}  # one step loop, compiled from its text as a whole


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_forbidden_construct(path):
    assert not forbidden(path)


@pytest.mark.parametrize(
    "line",
    ["eval(x)", "exec(x)", "sympify(x)", "sp.sympify(x)", "np.clip(x, 0, 1)", "import pickle"],
)
def test_a_forbidden_construct_is_found(line, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    path = tmp_path / "module.py"
    path.write_text(line)
    assert forbidden(path)


def test_only_plotting_imports_matplotlib():
    users = {name(path) for path in MODULES if any("matplotlib" in i for i in imports(path))}
    assert {user for user in users if not user.startswith("solvers/plotting")} == set()


def test_solvers_use_the_public_names_of_theory():
    used = [module for path in (ROOT / "solvers").rglob("*.py") for module in imports(path)]
    assert not [module for module in used if re.match(r"theory(\.\w+)*\._[a-z]", module)]


def test_what_is_imported_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    declared = {
        re.split(r"[^\w-]", requirement)[0].lower()
        for requirement in [*project["dependencies"], *extras["fast"], *extras["cluster"]]
    }
    distributions = packages_distributions()
    imported = {module.split(".")[0] for path in MODULES for module in imports(path)}
    third_party = imported - set(sys.stdlib_module_names) - set(PACKAGES)
    providers = {
        module: {found.lower() for found in distributions.get(module, [module])}
        for module in third_party
    }
    assert not [module for module, found in providers.items() if not found & declared]


@pytest.mark.parametrize("path", TEXTS, ids=name)
def test_no_machine_is_named(path):
    assert not HOSTS_AND_HOMES.findall(path.read_text())


def test_constraints_are_exact_versions_without_addresses():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)


def test_no_test_folder_shadows_a_package():
    assert not [path for path in (ROOT / "tests").rglob("*") if path.name in PACKAGES]


def test_imports_go_one_way():
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout

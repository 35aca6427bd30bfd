"""Compiled flows: the generated functions of a rule, called with a state and its parameters."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theory.activations import Activation, linear
from theory.finite import finite_support
from theory.generation import machine
from theory.generation.bound import OVER_PAIRS, STATE, Bound, bind, index_arrays, places
from theory.generation.homes import literals
from theory.generation.native import UnsupportedError
from theory.generation.sources import cache_folder, load, source_of
from theory.overlaps import Layout, field_covariance
from theory.rules.base import Rule, named
from theory.statement import Structure, check_units

Array = NDArray[np.float64]
Parameters = Mapping[str, Any]
MOST_ENTRIES = 2**19
"""numpy fills arrays of at most so many numbers (pairs of units × fields²) at a time."""
MOST_UNITS = 6
"""Loops for the noise at a finite support keep tables of about K^6 numbers: for so many units."""
MOST_LINES, LONGEST = 400, 100
"""Flows of more lines of numpy, which are known first, or of more tensors in loops take longer to
compile than most runs gain: "auto" leaves them to numpy."""


@dataclass(frozen=True)
class CompiledFlow:
    """A flow as numpy functions of the state vector y and the parameters.

    ``rhs(y, p)`` is dy/dα, or the increment F(y) − y per step in the population regime
    (``discrete``); ``jacobian(y, p)`` its exact derivative, shape (size, size). Pickles by its
    description: the functions are made again where it arrives.
    """

    rule: Rule
    structure: Structure
    activation: Activation
    layout: Layout
    backend: str = "numpy"

    @property
    def discrete(self) -> bool:
        """Whether time counts steps."""
        return self.rule.regime == "population"

    @cached_property
    def source(self) -> str:
        """The generated numpy source of the flow and the error."""
        return self.source_of("flow") + "\n\n" + self.source_of("error")

    def source_of(self, name: str, backend: str = "numpy") -> str:
        """Generated source of one function: flow, error, jacobian or error_gradient."""
        return source_of(self.rule, self.structure, self.activation, name, backend)

    @cached_property
    def digest(self) -> str:
        """Digest of the generated source."""
        return hashlib.sha256(self.source.encode()).hexdigest()

    def __getstate__(self) -> dict[str, Any]:
        names = [f.name for f in dataclasses.fields(self)]
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)

    @cached_property
    def _namespaces(self) -> dict[str, dict[str, Any]]:
        """The sources loaded so far."""
        return {}

    def _namespace(self, name: str) -> dict[str, Any]:
        """The generated numpy function of this name, and what its source says of it."""
        if name not in self._namespaces:
            self._namespaces[name] = load(self.source_of(name), self.activation)
        return self._namespaces[name]

    @cached_property
    def _layout(self) -> dict[str, Any]:
        return index_arrays(self.layout)

    @cached_property
    def tier(self) -> str:
        """The backend in use: "auto" takes compiled loops where they exist for the flow.

        Raises UnsupportedError, a sentence, where "numba" was asked for and cannot be had.
        """
        lines = self.source_of("flow").count("\n") if self.backend == "auto" else 0
        if self.backend == "numpy" or lines > MOST_LINES:
            return "numpy"
        if not machine.available():
            if self.backend == "numba":
                raise UnsupportedError("integrate.backend numba needs the extra: macrodyn[fast].")
            return "numpy"
        source = self.source_of("flow", "numba")
        constants = literals(source)
        reason = constants.get("UNSUPPORTED")
        if self.layout.hidden > MOST_UNITS and "noise_heads" in constants.get("SHAPES", ()):
            reason = f"noise at a finite support, K > {MOST_UNITS}"
        if self.backend == "numba" and reason:
            raise UnsupportedError(f"integrate.backend numba cannot run this rule: {reason}.")
        long = self.backend == "auto" and source.count(" = empty(") > LONGEST
        return "numpy" if reason or long else "numba"

    def _tier(self, name: str) -> str:
        """The backend of one function: derivatives of noise by cubature are left to numpy."""
        compiled = self.tier == "numba" and not (name == "jacobian" and self._finite)
        return "numba" if compiled else "numpy"

    def bound(self, name: str, parameters: Parameters) -> Callable[[Array], Any]:
        """A function of y alone, for many calls from one thread: "flow", "jacobian", "error", …

        The parameters are read now; what is done to them later has no effect.
        """
        if self._tier(name) == "numpy":
            if name == "flow" and not self._finite:
                return self._rate(parameters)
            plain = {"flow": self.rhs, "jacobian": self.jacobian, "error": self.error,
                     "error_gradient": self.error_gradient}[name]  # fmt: skip
            return lambda y: plain(y, parameters)
        return self._bind(name, parameters).call

    def _bind(self, name: str, parameters: Parameters) -> Bound:
        kernel, packed = self.kernel(name, parameters)
        n, K = self.layout.size, self.layout.hidden
        shape = {"jacobian": (n, n), "error": (1,), "noise": (2, K, K)}.get(name, (n,))
        known = places(self._layout, self._loops(name)[1], parameters, self._given)
        return Bound(bind(kernel, packed, n, shape), packed, known, self._given)

    def along(self, name: str, parameters: Parameters) -> Callable[[Array], Array]:
        """``bound`` for many states at once: (n, size) to (n, …)."""
        if self._tier(name) == "numpy":
            one = self.bound(name, parameters)
            return lambda y: np.array([one(state) for state in y])
        kernel, packed = self.kernel(name, parameters)
        work, size = np.empty(max(kernel.work, 1)), self.layout.size
        shape = {"jacobian": (size, size), "error": ()}.get(name, (size,))
        kept, rows = (packed.ctypes.data, work.ctypes.data), kernel.rows

        def call(y: Array, _: Any = (packed, work)) -> Array:  # what is pointed to stays alive
            y, out = np.ascontiguousarray(y, dtype=float), np.empty((len(y), *shape))
            rows(y.ctypes.data, *kept, out.ctypes.data, len(y))
            return out

        return call

    def solver(self, function: str, text: str, settings: int) -> Callable[..., None]:
        """A compiled function f(y, settings, parameters, out) from ``text``, which calls the flow.

        ``text`` is Python in the subset of theory.generation.native; it fills ``out``, a contiguous
        array.
        """
        loaded, packed, work, given = None, np.empty(0), np.empty(1), None

        def call(y: Array, numbers: Sequence[float], parameters: Parameters, out: Array) -> None:
            nonlocal loaded, packed, work, given
            if given is not parameters or loaded is None:
                rest = self.kernel("flow", parameters)[1]
                if loaded is None or len(packed) != settings + len(rest):
                    loaded = self._solver(text, function, settings, parameters, len(rest))
                    work = np.empty(max(loaded.work, 1))
                packed, given = np.concatenate([np.zeros(settings), rest]), parameters
            packed[:settings] = numbers
            state = np.ascontiguousarray(y, dtype=float)
            loaded.function(*(a.ctypes.data for a in (state, packed, work, out)))

        return call

    def _solver(
        self, text: str, name: str, settings: int, parameters: Parameters, length: int
    ) -> machine.Kernel:
        source, shapes = self._loops("flow")
        values = [np.asarray(self._given(a, parameters), float) for a in shapes]
        key = f"{name}:{settings}", tuple(value.shape for value in values)
        if key not in self._kernels:
            sizes = {**self._sizes(shapes, values), "n": self.layout.size, "settings_": settings,
                     "parameters_": length}  # fmt: skip
            more = {"settings": ("settings_",), "parameters": ("parameters_",)}
            joined = f"{source}\n\n{text}\n\nSHAPES = {shapes | more!r}\n"
            whole = tuple(sorted(sizes.items()))
            self._kernels[key] = machine.kernel(joined, name, whole, cache_folder())
        return self._kernels[key]

    @cached_property
    def _texts(self) -> dict[str, tuple[str, dict[str, str]]]:
        """Sources of compiled functions read so far, and the shapes of their arguments."""
        return {}

    def _loops(self, name: str) -> tuple[str, dict[str, str]]:
        if name not in self._texts:
            text = self.source_of(name, "numba")
            self._texts[name] = text, literals(text)["SHAPES"]
        return self._texts[name]

    def kernel(self, name: str, parameters: Parameters) -> tuple[machine.Kernel, Array]:
        """A compiled function for these sizes, and the parameters one after the other."""
        (text, shapes), known = self._loops(name), self._layout
        values = [np.asarray(known[a] if a in known else self._given(a, parameters), float)
                  for a in shapes]  # fmt: skip
        key = name, tuple(value.shape for value in values)
        if key not in self._kernels:
            sizes = tuple(sorted(self._sizes(shapes, values).items()))
            self._kernels[key] = machine.kernel(text, name, sizes, cache_folder())
        return self._kernels[key], np.concatenate([*(v.ravel() for v in values), np.zeros(1)])

    def _sizes(self, shapes: dict[str, str], values: list[Array]) -> dict[str, int]:
        K, M = self.layout.hidden, self.layout.teacher_hidden
        sizes = {"K": K, "M": M, "N": K + M, "pairs": K * (K + 1) // 2, "Y": self.layout.size,
                 "L": self.layout.blocks or 1}  # fmt: skip
        for value, shape in zip(values, shapes.values(), strict=True):
            for letter, size in zip(shape, value.shape, strict=True):
                if sizes.setdefault(letter, size) != size:
                    raise ValueError(f"a parameter has the shape {value.shape}, not {shape}")
        return sizes

    @cached_property
    def _kernels(self) -> dict[tuple[str, tuple[tuple[int, ...], ...]], machine.Kernel]:
        """Compiled functions loaded so far, by name and the shapes of their parameters."""
        return {}

    @cached_property
    def _bound(self) -> dict[tuple[str, int], Bound]:
        """Bound functions made so far for each thread."""
        return {}

    def _compiled(self, name: str, y: Array, parameters: Parameters) -> Array:
        """One call of a compiled function; arrays given before are not to be changed in place."""
        key = name, threading.get_ident()
        bound = self._bound.get(key)
        if bound is None or not bound.takes(parameters):
            bound = self._bound[key] = self._bind(name, parameters)
        return bound.call(y)

    def _prepared(self, name: str, parameters: Parameters) -> Callable[..., Any]:
        """A numpy function of what depends on the state, and of pairs of units."""
        made = self._namespace(name)
        known = {a: self._layout[a] if a in self._layout
                 else np.asarray(self._given(a, parameters), float)
                 for a in made["ARGUMENTS"]}  # fmt: skip
        return made[name](**known)

    def _call(self, name: str, y: Array, parameters: Parameters, **more: Array) -> Any:
        state = dict(zip(STATE, self.layout.unpack(y), strict=True)) | more
        values = [state[a] for a in self._namespace(name)["STATE"]]
        return self._prepared(name, parameters)(*values, *self._pairs(slice(None)))

    def _pairs(self, some: slice) -> list[Array]:
        """The index arrays of some pairs of units."""
        return [self._layout[a][some] for a in OVER_PAIRS]

    def _given(self, name: str, parameters: Parameters) -> Any:
        """A parameter; the teacher's overlap always comes with a block axis, (L, M, M)."""
        value = parameters[name]
        overlap = name in ("T", "TT") and not self.structure.blocks
        return value[0] if overlap and value.ndim == 3 else value

    @cached_property
    def _finite(self) -> bool:
        """Whether the noise comes by cubature over finite supports."""
        if self.tier == "numba":
            return "noise_heads" in self._loops("flow")[1]
        return "S_finite" in self._namespace("flow")["STATE"]

    def finite_noise(self, y: Array, parameters: Parameters) -> Array:
        """S (K, K) at a finite support P, by cubature or the closure that the rule names."""
        return self._over_supports(finite_support.noise, y, parameters)

    def noise_estimate(self, y: Array, parameters: Parameters) -> float:
        """Error of the cubature of S at y, relative to its largest entry; 0 where S is closed."""
        if not self._finite:
            return 0.0
        if self.tier == "numba":
            return finite_support.difference(*self._compiled("noise", y, parameters))
        return self._over_supports(finite_support.noise_estimate, y, parameters)

    def _finite_noise_along(self, y: Array, parameters: Parameters) -> dict[str, Array]:
        """S and its derivative along every coordinate of the state."""
        S, by_C, by_w = self._over_supports(finite_support.noise_jacobian, y, parameters)
        Q, R, dw = (self._layout[name] for name in ("Q_dot", "R_dot", "w_dot"))
        dC = field_covariance(Q, R, np.zeros_like(self._given("T", parameters)))
        if self.layout.blocks is not None:
            dC = np.einsum("b,ybac->yac", parameters["variance"], dC)
        dot = np.einsum("klac,yac->ykl", by_C, dC) + np.einsum("klj,yj->ykl", by_w, dw)
        return {"S_finite": S, "S_finite_dot": dot}

    def _over_supports(self, average: Callable[..., Any], y: Array, parameters: Parameters) -> Any:
        """An average over finite supports at the covariance of the fields of one task, and w."""
        Q, R, w = self.layout.unpack(y)
        C = field_covariance(Q, R, self._given("TT", parameters))
        if self.layout.blocks is not None:
            C = np.einsum("b,bac->ac", parameters["variance"], C)
        heads, weights = parameters["noise_heads"], parameters["noise_weights"]
        step = finite_support.step_of(self.rule, parameters)
        return average(C, w, heads, weights, step, self.activation)

    def rhs(self, y: Array, parameters: Parameters) -> Array:
        """dy/dα at y, shape (size,)."""
        if self.tier == "numba":
            return self._compiled("flow", y, parameters)
        if not self._finite:
            return self._rate(parameters)(y)
        noise = self.finite_noise(y, parameters)
        dQ, dR, dw = self._call("flow", y, parameters, S_finite=noise)
        return np.concatenate([dQ.ravel(), dR.ravel(), dw])

    @cached_property
    def _blocks(self) -> list[list[Array]]:
        """The pairs of units that the numpy flow takes at a time: all, if one reads another's."""
        pairs, fields = len(self._layout["rows"]), len(self._layout["fields"])
        together = self._namespace("flow")["TOGETHER"]
        step = pairs if together else max(1, MOST_ENTRIES // fields**2)
        return [self._pairs(slice(first, first + step)) for first in range(0, pairs, step)]

    def _rate(self, parameters: Parameters) -> Callable[[Array], Array]:
        """rhs by numpy at given parameters, so many pairs of units at a time as memory is for."""
        unpack, at, blocks = self.layout.unpack, self._prepared("flow", parameters), self._blocks

        def rate(y: Array) -> Array:
            state = unpack(y)
            (dQ, dR, dw), *more = [at(*state, *pairs) for pairs in blocks]
            if more:
                dQ = np.concatenate([dQ, *(part[0] for part in more)], axis=-1)
            return np.concatenate((dQ, dR, dw), axis=None)

        return rate

    def jacobian(self, y: Array, parameters: Parameters) -> Array:
        """∂(rhs)_i/∂y_j, shape (size, size)."""
        if self._tier("jacobian") == "numba":
            return self._compiled("jacobian", y, parameters)
        if self.activation.has_kinks:
            return self._by_differences(y, parameters)
        more = self._finite_noise_along(y, parameters) if self._finite else {}
        dQ, dR, dw = self._call("jacobian", y, parameters, **more)
        n = self.layout.size
        return np.concatenate([dQ.reshape(n, -1), dR.reshape(n, -1), dw], axis=1).T

    def _by_differences(self, y: Array, parameters: Parameters) -> Array:
        """The Jacobian of an activation with kinks by central differences, to about 1e-8.

        Derivatives of its averages are singular term by term where fields coincide.
        """
        step = np.cbrt(np.finfo(float).eps)
        columns = [
            (self.rhs(y + step * e, parameters) - self.rhs(y - step * e, parameters)) / (2 * step)
            for e in np.eye(self.layout.size)
        ]
        return np.stack(columns, axis=1)

    def observables(self, y: Array, parameters: Parameters) -> dict[str, float]:
        """Built-in observables at y: the generalisation error after the rule's adaptation."""
        return {"error": self.error(y, parameters)}

    def error(self, y: Array, parameters: Parameters) -> float:
        """ε = ½⟨(f − y)²⟩ against the noiseless target, after the rule's adaptation."""
        if self.tier == "numba":
            return float(self._compiled("error", y, parameters)[0])
        return float(self._call("error", y, parameters))

    def error_gradient(self, y: Array, parameters: Parameters) -> Array:
        """∂ε/∂y, shape (size,)."""
        if self.tier == "numba":
            return self._compiled("error_gradient", y, parameters)
        return np.array(self._call("error_gradient", y, parameters))


_shared = lru_cache(maxsize=128)(CompiledFlow)
"""A flow is made once for all rules that differ in their rates alone."""


def compile_flow(
    rule: Rule, layout: Layout, activation: Activation, *, heads: bool = False,
    backend: str = "numpy",
) -> CompiledFlow:  # fmt: skip
    """The compiled flow of a rule. Raises NoTheoryError where the combination has no theory.

    ``backend``: "numpy", "numba" (loops that LLVM compiles) or "auto" (these where they exist).
    """
    check_units(rule, activation)
    structure = Structure(layout.blocks is not None, heads, linear=activation == linear)
    return _shared(named(rule), structure, activation, layout, backend)

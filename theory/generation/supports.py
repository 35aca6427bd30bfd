"""The part of the compiled loops that evaluates the noise at a finite support."""

from __future__ import annotations

from theory.derivation.indexed import Program

SHAPES: dict[str, tuple[str, ...]] = {
    "noise_heads": ("drawn", "M"), "noise_weights": ("drawn",), "inner_rate": (), "support": (),
    "query": (), "tasks_per_step": (), "label_noise": (),
}  # fmt: skip
"""What the noise is a function of, beside the covariance of the fields and w."""

LINES = """
noise_covariance = empty(N*N)
noise_w = empty(K)
noise_sums = empty({room})
S_finite = empty(K*K)
for i in range(N*N):
    noise_covariance[i] = 0.0
for b in range({blocks}):
    for k in range(K):
        for l in range(K):
            noise_covariance[k*N + l] += {share}*state[b*pairs + pair(k, l)]
        for m in range(M):
            overlap = {share}*state[{blocks}*pairs + (b*K + k)*M + m]
            noise_covariance[k*N + K + m] += overlap
            noise_covariance[(K + m)*N + k] += overlap
    for m in range(M):
        for n in range(M):
            noise_covariance[(K + m)*N + K + n] += {share}*TT[(b*M + m)*M + n]
for k in range(K):
    noise_w[k] = state[{blocks}*pairs + {blocks}*K*M + k]
finite_noise(K, M, N, drawn, noise_covariance, noise_w, noise_heads, noise_weights, inner_rate,
             support, query, tasks_per_step, label_noise, {exact}, 0.0, noise_sums, S_finite)
"""
CHECK = """
S_check = empty(K*K)
finite_noise(K, M, N, drawn, noise_covariance, noise_w, noise_heads, noise_weights, inner_rate,
             support, query, tasks_per_step, label_noise, {exact}, 1.0, noise_sums, S_check)
for i in range(K*K):
    out[i] = S_finite[i]
    out[K*K + i] = S_check[i]
"""
PLAIN = "1 + pairs + pairs*N*(N + 1)//2 + drawn*K*(K + 1)*(K + 2)*(K + 3)"
EXACT = "1 + pairs + 2*pairs*N*N + K*N + drawn*(pairs + 1)*(K + 1)*(K + 1)*(K + 2)*(K + 3)"


def noise_lines(
    program: Program, exact: bool, *, check: bool = False
) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    """Lines that fill ``S_finite``, and the shapes of the parameters that they read.

    ``check``: lines that fill ``out`` with S (K, K) and with what an independent lattice gives.
    """
    blocks = "L" in program.inputs["Q"]
    text = (LINES + CHECK * check).strip().format(
        blocks="L" if blocks else "1", share="variance[b]" if blocks else "1.0",
        exact="1.0" if exact else "0.0", room=EXACT if exact else PLAIN,
    )  # fmt: skip
    shapes = {"TT": ("L", "M", "M") if blocks else ("M", "M"), **SHAPES}
    return list[str](text.splitlines()), shapes | ({"variance": ("L",)} if blocks else {})


def noise_source(program: Program, exact: bool) -> str:
    """Source of a compiled function ``noise`` that checks S."""
    body, shapes = noise_lines(program, exact, check=True)
    head = f"def noise({', '.join(('state', *shapes, 'out'))}):"
    return "\n".join([f"SHAPES = {shapes!r}", "", "", head, *(f"    {line}" for line in body)])

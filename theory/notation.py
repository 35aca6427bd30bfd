"""The symbols of the field: how scalars and tensors are written, in LaTeX and in Unicode."""

import re

GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "varepsilon", "ζ": "zeta",
    "η": "eta", "θ": "theta", "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu", "ξ": "xi",
    "π": "pi", "ρ": "rho", "σ": "sigma", "τ": "tau", "φ": "varphi", "χ": "chi", "ψ": "psi",
    "ω": "omega", "Γ": "Gamma", "Δ": "Delta", "Λ": "Lambda", "Φ": "Phi", "Ω": "Omega",
}  # fmt: skip
"""Greek letters by their names."""
NAMES = {
    "outer_rate": (r"\eta_J", "η_J"),
    "head_rate": (r"\eta_w", "η_w"),
    "inner_rate": (r"\eta_{\mathrm{in}}", "η_in"),
    "representation_rate": (r"\eta", "η"),
    "weight_decay": (r"\kappa", "κ"),
    "query": ("V", "V"),
    "tasks_per_step": (r"T_{\mathrm b}", "T_b"),
    "label_noise": (r"\sigma", "σ"),
    "support": ("P", "P"),
    "support_ratio": (r"\rho", "ρ"),
    "penalty": (r"\lambda", "λ"),
    "ridge": (r"\lambda", "λ"),
    "Q": ("Q", "Q"),
    "R": ("R", "R"),
    "w": ("w", "w"),
    "T": ("T", "T"),
    "TT": ("T'", "T'"),
    "C": ("C", "C"),
    "C_block": ("C", "C"),
    "V": ("v", "v"),
    "s": ("s", "s"),
    "e": ("e", "e"),
    "s2": (r"\overline{ss}", "⟨ss⟩"),
    "s4": (r"\overline{ssss}", "⟨ssss⟩"),
    "s_mean": (r"\bar s", "⟨s⟩"),
    "s2_initial": (r"\overline{ss}^{(0)}", "⟨ss⟩⁰"),
    "U": (r"\overline{\hat u\hat u}", "⟨ûû⟩"),
    "mean_task": (r"\overline{\hat u}", "⟨û⟩"),
    "constant": (r"\delta^0", "δ⁰"),
    "unit": (r"\delta", "δ"),
    "heads": ("u", "u"),
    "teacher_head": ("u", "u"),
    "weight": ("p", "p"),
    "task_vector": (r"\hat u", "û"),
    "s_task": ("s", "s"),
    "variance": (r"\lambda", "λ"),
    "fraction": ("f", "f"),
    "error": (r"\varepsilon", "ε"),
    "w_initial": ("W", "W"),
    "w_adapted": ("W'", "W'"),
    "gradient": (r"\mathcal{G}", "𝒢"),
    "adapted_gradient": (r"\mathcal{G}'", "𝒢'"),
    "task_error": (r"\varepsilon", "ε"),
    "support_error": (r"\varepsilon^{\mathrm{in}}", "ε_in"),
    "S_finite": ("S", "S"),
    "S": ("S", "S"),
    "D": ("D", "D"),
    "X": ("X", "X"),
    "overlaps": ("O", "O"),
    "I2": (r"I_2", "I2"),
    "I2_pair": (r"J_2", "J2"),
    "I4_pair": (r"I_4", "I4"),
    "A4": ("A_4", "A4"),
    "G": ("G", "G"),
    "GC": (r"(GC)", "(GC)"),
    "GS": (r"(G^{\top}S)", "(GᵀS)"),
    "A": ("A", "A"),
    "w_spread": (r"\Omega", "Ω"),
    "trace": (r"\tau", "τ"),
    "e_trace": (r"\epsilon", "ϵ"),
    "e_square": (r"\overline{e^2}", "⟨e²⟩"),
    "Q_power": (r"Q^{\circ}", "Q°"),
    "e_power": (r"e^{\circ}", "e°"),
    "d": ("d", "d"),
    "e_outer": (r"\overline{ee}", "⟨ee⟩"),
    "gram": (r"\Phi", "Φ"),
    "gram_inverse": (r"\Phi^{+}", "Φ⁺"),
    "target": ("y", "y"),
    "kept": ("q", "q"),
    "C_kept": ("C", "C"),
    "objective": (r"\mathcal{L}", "ℒ"),
    "C_adapted": ("C'", "C'"),
    "C_block_adapted": ("C'", "C'"),
    "C_task": ("C", "C"),
    "C_block_task": ("C", "C"),
    "S_support": (r"S^{\mathrm{sup}}", "S_sup"),
    "S_total": (r"S^{\mathrm{tot}}", "S_tot"),
    "overlap_variance": (r"\overline{\lambda^2}", "⟨λ²⟩"),
}
"""Symbols of scalars and tensors, in LaTeX and in Unicode; others go by their own name."""
LEGEND = (
    ("klij", "learner units 1, …, K"),
    ("mn", "teacher units 1, …, M"),
    ("acd", "all fields x = (h, b): learner units, then teacher units"),
    ("xz", "components 0, …, M of û = (1, u)"),
    ("t", "tasks: the given ones, or the nodes of the average over heads"),
    ("b", "blocks of input coordinates"),
)
"""What an index runs over, by its letter."""

MODEL = (
    r"Learner $f = \sum_k w_k g(h_k)$, labels $y = \sum_m u_m g(b_m) + \sigma\nu$ on normal inputs "
    r"$\xi$, with fields $h_k = J_k\cdot\xi/\sqrt N$, $b_m = B_m\cdot\xi/\sqrt N$ and a head $u$ "
    r"for each task. State: $Q = JJ^{\top}/N$, $R = JB^{\top}/N$, the head $w$. Given: teacher "
    r"overlap $T = BB^{\top}/N$.",
    "Learner f = Σ_k w_k g(h_k), labels y = Σ_m u_m g(b_m) + σν on normal inputs ξ, with fields "
    "h_k = J_k·ξ/√N, b_m = B_m·ξ/√N and a head u for each task. State: Q = J Jᵀ/N, R = J Bᵀ/N, "
    "the head w. Given: teacher overlap T = B Bᵀ/N.",
)
RESIDUAL = (
    r"Residual $\Delta = y - f = \sum_a s_a g(x_a) + \sigma\nu$ with $s = (-w, u)$; loss "
    r"$\frac12\Delta^2$; $g_a = g(x_a)$; $\langle\cdot\rangle$: average over the fields, of "
    r"covariance $C$ or of that in its index; below, of the fields 1, 2, \dots, in any order.",
    "Residual Δ = y − f = Σ_a s_a g(x_a) + σν with s = (−w, u); loss ½Δ²; g_a = g(x_a); ⟨·⟩: "
    "average over the fields, of covariance C or of that in its index; below, of the fields "
    "1, 2, …, in any order.",
)
SIGNS = (
    (r"\mathrm{sgn}(\rho_{12}, \rho_{13}, \dots)",
     r"= \langle\operatorname{sgn}z_1\operatorname{sgn}z_2\cdots\rangle, \quad "
     r"z\text{ normal of variance 1 and correlations }\rho_{ij}"),
    ("SignMoment(ρ12, ρ13, …)",
     "= ⟨sgn z1 sgn z2 …⟩, z normal of variance 1 and correlations ρ_ij"),
)  # fmt: skip
"""What closed forms on orthants are made of."""
LINES = (
    r"A tensor may have several lines, each for the entries that its indices run over; "
    r"$\mathrel{+}=$ adds; entries without a line are 0.",
    "A tensor may have several lines, each for the entries that its indices run over; += adds; "
    "entries without a line are 0.",
)
"""How a definition of several pieces is read."""
TIME = {
    False: (r"$\alpha$: outer updates divided by $N$, $N\to\infty$",
            "α: outer updates divided by N, N → ∞"),
    True: (r"$\Delta X$: increment of $X$ per outer step", "ΔX: increment of X per outer step"),
}  # fmt: skip
"""What the flow gives, by whether it is a map."""

MEANINGS = (
    ("C",
     r"$C$: covariance of the fields; $v$ its diagonal",
     "C: covariance of the fields; v its diagonal"),
    ("variance",
     r"$\lambda_b$, $f_b$: variance and share of the coordinates of a block; $C_b$, $Q_b$, $R_b$, "
     r"$T_b$: sums over its coordinates, divided by the whole $N$",
     "λ_b, f_b: variance and share of the coordinates of a block; C_b, Q_b, R_b, T_b: sums over "
     "its coordinates, divided by the whole N"),
    ("TT",
     r"$T' = T + \delta^2 I$: overlap of one task's teacher (representation spread $\delta$; with "
     r"blocks $T'_b = T_b + \delta^2 f_b I$)",
     "T' = T + δ²·I: overlap of one task's teacher (representation spread δ; with blocks "
     "T'_b = T_b + δ² f_b·I)"),
    ("U",
     r"$\overline{\hat u\hat u}$: second moment of $\hat u = (1, u)$ over tasks; of $u$ with mean "
     r"$u_0$ and covariance $\Sigma_u$ its entries are 1, $u_0$ and $\Sigma_u + u_0u_0^{\top}$",
     "⟨ûû⟩: second moment of û = (1, u) over tasks; of u with mean u0 and covariance Cov its "
     "entries are 1, u0 and Cov + u0 u0ᵀ"),
    ("mean_task",
     r"$\overline{\hat u}$: mean of $\hat u = (1, u)$ over tasks",
     "⟨û⟩: mean of û = (1, u) over tasks"),
    ("constant",
     r"$\delta^0_x$: 1 for $x = 0$, else 0",
     "δ⁰_x: 1 for x = 0, else 0"),
    ("unit",
     r"$\delta_{n x}$: 1 where $\hat u_x$ is $u_n$, else 0",
     "δ_nx: 1 where û_x is u_n, else 0"),
    ("U",
     r"$W$: a head is affine in the task, $w_k = \sum_x W_{k x}\hat u_x$, and so is $s$; a prime: "
     r"after the inner loop; a number in brackets: after further steps",
     "W: a head is affine in the task, w_k = Σ_x W_kx û_x, and so is s; a prime: after the inner "
     "loop; a number in brackets: after further steps"),
    ("teacher_head",
     r"$u$: head of the teacher, one for all examples",
     "u: head of the teacher, one for all examples"),
    ("heads",
     r"$u_t$: heads of the tasks averaged over",
     "u_t: heads of the tasks averaged over"),
    ("task_vector",
     r"$\hat u_t = (1, u_t)$ for the heads $u_t$ of the tasks",
     "û_t = (1, u_t) for the heads u_t of the tasks"),
    ("weight",
     r"$p_t$: weights of the tasks in their average: equal for a given set, those of Gauss and "
     r"Hermite for normal heads",
     "p_t: weights of the tasks in their average: equal for a given set, those of Gauss and "
     "Hermite for normal heads"),
    ("G",
     r"$G$: representation after the inner loop, $J' = G\,(J, B)$",
     "G: representation after the inner loop, J' = G·(J, B)"),
    ("w_spread",
     r"$\Omega$: covariance of the adapted head over supports, averaged over tasks",
     "Ω: covariance of the adapted head over supports, averaged over tasks"),
    ("Q_power",
     r"$Q^{\circ}$, $e^{\circ}$, $\tau$, $\epsilon$: products of powers of $C$ with $C$ and $e$, "
     r"and their traces; $d$: mean displacement of the head on one support",
     "Q°, e°, τ, ϵ: products of powers of C with C and e, and their traces; d: mean displacement "
     "of the head on one support"),
    ("gram",
     r"$(\cdot)^{+}$: pseudoinverse",
     "(·)⁺: pseudoinverse"),
    ("error",
     r"$\varepsilon$: mean of $\frac12(f - y)^2$, without label noise, on new examples of new "
     r"tasks after the rule's own adaptation",
     "ε: mean of ½(f − y)², without label noise, on new examples of new tasks after the rule's own "
     "adaptation"),
    ("gradient",
     r"$\mathcal G$: gradient of $\varepsilon$ with respect to $J$, in the rows of $(J, B)$",
     "𝒢: gradient of ε with respect to J, in the rows of (J, B)"),
    ("D",
     r"$D$: mean displacement of $J$ in a unit of time, in the rows of $(J, B)$, whose overlaps "
     r"are $O$; $X$: its own overlaps with $J$ and $B$",
     "D: mean displacement of J in a unit of time, in the rows of (J, B), whose overlaps are O; X: "
     "its own overlaps with J and B"),
    ("S_finite",
     r"$S_{kl} = (\langle c_k c_l\rangle_{\mathrm{query}}/V + P\,\langle c_k c_l"
     r"\rangle_{\mathrm{support}})/T_{\mathrm b}$: noise, averaged over tasks, $P$ support and $V$ "
     r"query examples by cubature. With $e_p$ the residual of support example $p$ at $w$, "
     r"$w' = w + (\eta_{\mathrm{in}}/P)\sum_p e_p\, g(h_p)$ and $\Delta'$ the residual of a query "
     r"at $w'$: on a query $c_k = w'_k g'_k \Delta'$; on a support example 0 at order first and "
     r"$c_k = (\eta_{\mathrm{in}}/P)\, g'_k\,(\Gamma_k e - w_k \sum_l \Gamma_l g_l)$ at order "
     r"exact, $\Gamma_l$ the mean of $\Delta' g_l$ over the queries",
     "S_kl = (⟨c_k c_l⟩_query/V + P ⟨c_k c_l⟩_support)/T_b: noise, averaged over tasks, P support "
     "and V query examples by cubature. With e_p the residual of support example p at w, "
     "w' = w + (η_in/P) Σ_p e_p g(h_p) and Δ' the residual of a query at w': on a query "
     "c_k = w'_k g'_k Δ'; on a support example 0 at order first and "
     "c_k = (η_in/P) g'_k (Γ_k e − w_k Σ_l Γ_l g_l) at order exact, Γ_l the mean of Δ' g_l over "
     "the queries"),
    ("S",
     r"$S_{kl} = \langle c_k c_l\rangle$: noise of one example, "
     r"$c_k = -\partial(\frac12\Delta^2)/\partial h_k$",
     "S_kl = ⟨c_k c_l⟩: noise of one example, c_k = −∂(½Δ²)/∂h_k"),
)  # fmt: skip
"""What a page says of its symbols, for the tensors that it uses."""

CORRECTIONS = (
    r"An inner step on $J$ from support examples $p$ moves the field of a query $q$ by the rate "
    r"times $\frac1P\sum_p c_{k p}\,\xi_p\cdot\xi_q/N$. Given the fields, $\xi_p\cdot\xi_q/N$ has "
    r"mean $x_p^{\top}C^{-1}x_q/N$ and a variance of order $1/N$. Changed by $O(1/N)$, which is "
    r"dropped:",
    "An inner step on J from support examples p moves the field of a query q by the rate times "
    "(1/P) Σ_p c_kp ξ_p·ξ_q/N. Given the fields, ξ_p·ξ_q/N has mean x_pᵀ C⁻¹ x_q/N and a variance "
    "of order 1/N. Changed by O(1/N), which is dropped:",
)
"""What precedes the parts of a flow that an inner step on J changes beyond leading order."""

ADJOINTS = (
    r"$\widehat{X}$: derivative with respect to $X$ of $\varepsilon$ ($\varepsilon^{\mathrm{in}}$ "
    r"inside the inner loop), all that is defined before $X$ held; "
    r"$\widehat{X}^{\mathrm{s}}$: symmetrised",
    "∂ε/∂X: derivative of ε (ε_in inside the inner loop), all that is defined before X held; "
    "ˢ: symmetrised",
)

_SYMBOL = re.compile(r"([^\W\d_])(?:_([^\W_]+))?, ")
_SUFFIX = re.compile(r"(.+)_(bar_sym|bar|\d+)")


def symbol_of(name: str, latex: bool) -> str:
    """The symbol of a tensor: adjoints carry a hat, repeated names a number."""
    if name in NAMES:
        return NAMES[name][0 if latex else 1]
    found = _SUFFIX.fullmatch(name)
    if not found:
        return rf"\mathrm{{{name}}}".replace("_", r"\_") if latex else name
    stem, suffix = symbol_of(found[1], latex), found[2]
    if suffix.isdigit():
        if not latex:
            return f"({stem})⁽{suffix}⁾" if stem[0] == "∂" else f"{stem}⁽{suffix}⁾"
        # TeX strips the braces of a lone accent, and would see two superscripts
        return rf"{{{stem}{{}}}}^{{({suffix})}}" if "^" in stem else rf"{stem}^{{({suffix})}}"
    mark = suffix.removeprefix("bar").replace("_sym", r"^{\mathrm{s}}" if latex else "ˢ")
    return rf"\widehat{{{stem}}}{mark}" if latex else f"∂ε/∂{stem}{mark}"


def rate_symbol(name: str, doc: str) -> tuple[str, str]:
    """The symbol of a rate: the one that its documentation begins with, "η_J, …", or its name."""
    if name in NAMES:
        return NAMES[name]
    found = _SYMBOL.match(doc)
    if not found:
        return symbol_of(name.removeprefix("rate_"), True), name.removeprefix("rate_")
    letter, index = found.groups()
    stem = prose(letter).strip("$")
    below = index if not index or len(index) == 1 else rf"\mathrm{{{index}}}"
    return (f"{stem}_{{{below}}}" if index else stem), (f"{letter}_{index}" if index else letter)


def rate_meaning(name: str, doc: str, latex: bool) -> str:
    """A rate's symbol and what its rule says of it."""
    symbol = rate_symbol(name, doc)[0 if latex else 1]
    found = _SYMBOL.match(doc)
    meaning = doc[found.end() :] if found else doc
    return f"${symbol}$: {prose(meaning)}" if latex else f"{symbol}: {meaning}"


def rate_name(name: str, doc: str) -> str:
    """A rate in words with its symbol, as the axis of a figure is named."""
    found = _SYMBOL.match(doc)
    words = (doc[found.end() :] if found else doc).partition(" (")[0]
    return f"{words} ${rate_symbol(name, doc)[0]}$" if found else words


def prose(row: str) -> str:
    """A line of plain text in LaTeX: single letters, Greek and û as mathematics."""
    for plain, typeset in _PROSE.items():
        row = row.replace(plain, typeset)
    return row


_PROSE = {
    "x = (h, b)": "$x = (h, b)$", "û = (1, u)": r"$\hat u = (1, u)$", "1, …, K": r"$1, \dots, K$",
    "1, …, M": r"$1, \dots, M$", "0, …, M": r"$0, \dots, M$", "_": r"\_", "⟨": r"$\langle$",
    "⟩": r"$\rangle$", "²": "$^2$", "½": r"$\frac12$", "–": "--",
    **{letter: rf"$\{name}$" for letter, name in GREEK.items()},
}  # fmt: skip

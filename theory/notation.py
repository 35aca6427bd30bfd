"""The symbols of the field: how scalars and tensors are written, in LaTeX and in Unicode."""

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
    "I2": (r"I_2", "I2"),
    "I2_pair": (r"J_2", "J2"),
    "I4_pair": (r"I_4", "I4"),
    "A4": ("A_4", "A4"),
    "G": ("G", "G"),
    "GC": (r"(GC)", "(GC)"),
    "GS": (r"(G^{\top}S)", "(GᵀS)"),
    "A": ("A", "A"),
    "w_spread": (r"\Sigma^{w'}", "Σ^w'"),
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
    ("k, l", "learner units 1…K"),
    ("m, n", "teacher units 1…M"),
    ("a, c, d", "all fields x = (h, b): learner units, then teacher units"),
    ("x, z", "components 0…M of û = (1, u)"),
    ("t", "tasks (nodes of the average over heads)"),
    ("b", "blocks of input coordinates"),
)


MEANINGS = (
    (
        "C",
        r"$C$: covariance of the fields; $v$ its diagonal",
        "C: covariance of the fields; v its diagonal",
    ),
    (
        "TT",
        r"$T' = T + \delta^2 I$: overlap of one task's teacher (representation spread $\delta$)",
        "T' = T + δ²·I: overlap of one task's teacher (representation spread δ)",
    ),
    (
        "U",
        r"$\overline{\hat u\hat u}$: second moment of $\hat u = (1, u)$ over tasks; "
        r"$\overline{\hat u}$ its mean",
        "⟨ûû⟩: second moment of û = (1, u) over tasks; ⟨û⟩ its mean",
    ),
    (
        "w_initial",
        r"$W$: heads are affine in the task, $w_k = \sum_x W_{k x}\hat u_x$; "
        r"$\delta^0_x = 1$ for $x = 0$",
        "W: heads are affine in the task, w_k = Σ_x W_kx û_x; δ⁰_x = 1 for x = 0",
    ),
    (
        "heads",
        r"$u_t$, $p_t$: heads and weights of the tasks averaged over",
        "u_t, p_t: heads and weights of the tasks averaged over",
    ),
    (
        "S_finite",
        r"$S$: noise at finite support, averaged by cubature",
        "S: noise at finite support, averaged by cubature",
    ),
    (
        "gradient",
        r"$\mathcal G$: gradient of $\varepsilon$ with respect to $J$, in the rows of $(J, B)$",
        "𝒢: gradient of ε with respect to J, in the rows of (J, B)",
    ),
    (
        "S",
        r"$S_{kl} = \langle c_k c_l\rangle$: noise of one example, "
        r"$c_k = -\partial(\frac12\Delta^2)/\partial h_k$",
        "S_kl = ⟨c_k c_l⟩: noise of one example, c_k = −∂(½Δ²)/∂h_k",
    ),
)
"""What a page says of its symbols, for the tensors that it uses."""


def symbol_of(name: str, latex: bool) -> str:
    """The symbol of a tensor: adjoints carry a hat, repeated names a number."""
    for suffix in ("_bar_sym", "_bar"):
        if name.endswith(suffix) or (f"{suffix}_" in name and name.rsplit("_", 1)[1].isdigit()):
            stem, _, number = name.partition(suffix)
            hat = (
                rf"\widehat{{{symbol_of(stem, latex)}}}"
                if latex
                else f"∂ε/∂{symbol_of(stem, latex)}"
            )
            return hat + _number(number.lstrip("_"), latex)
    if name in NAMES:
        return NAMES[name][0 if latex else 1]
    stem, _, number = name.rpartition("_")
    if number.isdigit():
        return symbol_of(stem, latex) + _number(number, latex)
    return rf"\mathrm{{{name}}}".replace("_", r"\_") if latex else name


def _number(number: str, latex: bool) -> str:
    if not number:
        return ""
    return rf"^{{({number})}}" if latex else f"⁽{number}⁾"

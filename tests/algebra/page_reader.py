"""Evaluates a page of ``derive --unicode`` as a reader would: from its text alone.

What stands left of a line names a tensor's entries, Σ_{…} sums over what an index's letter says,
the rest is arithmetic. No symbol of the engine is consulted.
"""

import itertools
import re

import numpy as np

from theory.gaussian.plackett import sign_moment

SETS = {"k": "K", "l": "K", "i": "K", "j": "K", "m": "M", "n": "M", "a": "N", "c": "N", "d": "N",
        "x": "H", "z": "H", "t": "t", "b": "b"}  # fmt: skip
INDEX = r"[klijmnacdxztb]'*"
FACTOR = re.compile(r"g('*|\^\{\((\d)\)\})_(\d|[a-z]'*)")


def sections(page):
    """{title: [(left, operator, right)]} of the equations."""
    found = {}
    for title, body in re.findall(r"^([A-Z]\w+)\n-+\n((?:  .+\n)+)", page, re.MULTILINE):
        lines = [line.strip() for line in body.splitlines()]
        found[title] = re.findall(r"^(.+?) (\+?=) (.+)$", "\n".join(lines), re.MULTILINE)
        assert len(found[title]) == len(lines)
    return found


def split_left(left):
    """(stem, indices) of an entry."""
    found = re.fullmatch(rf"(\w+[⁽\d⁾]*)\(({INDEX}(?:, {INDEX})*)\)", left)
    found = found or re.fullmatch(rf"(.+)_((?:{INDEX})+)", left)
    if not found:
        return left, ()
    return found[1], tuple(re.findall(INDEX, found[2]))


def top_level_terms(text):
    """Terms of a sum, each with its sign."""
    parts, depth, start = [], 0, 0
    for at, letter in enumerate(text):
        depth += (letter in "({⟨") - (letter in ")}⟩")
        if depth == 0 and text[at : at + 3] in (" + ", " - "):
            parts.append(text[start:at])
            start = at + 1
    return [re.sub(r"^([+-]) ", r"\1", part.strip()) for part in (*parts, text[start:])]


def lead_of(indices):
    return "".join(i[0] for i in indices if i[0] in "tb")


class Page:
    """The numbers of a page, from the values of its inputs and of its scalars."""

    def __init__(self, page, sizes, inputs, scalars):
        self.sizes = {**sizes, "N": sizes["K"] + sizes["M"], "H": 1 + sizes["M"]}
        self.sections, self.scalars = sections(page), scalars
        self.kinds, self.values = {}, {}
        for name, at, value in inputs:
            self.kinds[name, len(at), lead_of(at)] = [{SETS[i]} for i in at]
            self.values[name, len(at), lead_of(at)] = np.asarray(value, float)
        self.closed = {}
        self._averages()
        lines = [line for title in ("Definitions", "Flow") for line in self.sections.get(title, [])]
        for left, _, _ in lines:
            name, at = split_left(self._plain(left))
            kinds = self.kinds.setdefault((name, len(at), lead_of(at)), [set() for _ in at])
            for kind, i in zip(kinds, at, strict=True):
                kind.add(SETS[i[0]])
        stems = sorted({name for name, _, _ in self.kinds} | set(scalars), key=len, reverse=True)
        stem = "|".join(map(re.escape, stems))
        entry = rf"({stem})(?:\(({INDEX}(?:, {INDEX})*)\)|_((?:{INDEX})+)(?![\w']))?(?![\w⁽'])"
        self.token = re.compile(rf"⟨((?:g\S+ ?)+)⟩(?:_([A-Z]\S*?))?(?=[*/) ]|$)|{entry}")
        for _, _, right in lines:  # what is read beyond the entries with a line is 0
            for _, _, name, called, below in self.token.findall(right):
                at = re.findall(INDEX, called or below)
                for kind, i in zip(self.kinds.get((name, len(at), lead_of(at)), ()), at,
                                   strict=False):  # fmt: skip
                    kind.add(SETS[i[0]])
        for left, operator, right in lines:
            self._line(self._plain(left), operator, right)

    @staticmethod
    def _plain(left):
        """dQ_kl/dα and ΔQ_kl are entries of a tensor dQ."""
        return re.sub(r"^d(.+)/dα$", r"d\1", left).replace("Δ", "d")

    def _averages(self):
        known = {"pi": np.pi, "asin": np.arcsin, "sqrt": np.sqrt, "atan2": np.arctan2,
                 "SignMoment": sign_moment}  # fmt: skip
        parts = {}

        def needed(text):
            """Lines of the named parts that a formula is made of, in order."""
            names = [n for n in parts if re.search(rf"{n}(?!\d)", text)]
            return [line for n in names for line in (*needed(parts[n]), f"{n} = {parts[n]}")]

        for left, _, right in self.sections.get("Averages", []):
            if left.startswith("SignMoment"):
                continue
            if not left.startswith("⟨"):
                parts[left] = right
                continue
            orders, at = zip(*self._factors(left.strip("⟨⟩")), strict=True)
            code = "\n".join((*needed(right), f"value = {right}"))
            self.closed[orders, at] = compile(code, left, "exec"), known

    @staticmethod
    def _factors(text):
        """[(order, field)] of an average's factors."""
        return [(int(f[2] or f[1].count("'")), f[3]) for f in FACTOR.finditer(text)]

    def average(self, text, over, grid):
        """A closed form at the covariance of the fields that an average is over."""
        by_field = {}
        for order, at in self._factors(text):
            by_field.setdefault(at, []).append(order)
        fields = sorted(by_field, key=lambda at: sorted(by_field[at]), reverse=True)
        orders = tuple(q for at in fields for q in sorted(by_field[at]))
        names = tuple(str(i + 1) for i, at in enumerate(fields) for _ in by_field[at])
        code, known = self.closed[orders, names]
        lead = [i for i in ("t",) if i in grid and (over, 3, "t") in self.kinds]
        C = self.values[over, 2 + len(lead), "".join(lead)]
        at = [grid[i] + self.sizes["K"] * (SETS[i[0]] == "M") for i in fields]
        entries = {
            f"C{i + 1}{j + 1}": C[(*(grid[x] for x in lead), at[i], at[j])]
            for i, j in itertools.combinations_with_replacement(range(len(fields)), 2)
        }
        space = known | entries
        exec(code, space)
        return space["value"]

    def _at(self, name, indices, grid):
        """Where the entries of a tensor are: teacher units come after learner units."""
        kinds = self.kinds[name, len(indices), lead_of(indices)]
        return tuple(
            grid[i] + self.sizes["K"] * (SETS[i[0]] == "M" and kind != {"M"})
            for i, kind in zip(indices, kinds, strict=True)
        )

    def _shape(self, name, indices):
        kinds = self.kinds[name, len(indices), lead_of(indices)]
        return [self.sizes[next(iter(k)) if len(k) == 1 else "N"] for k in kinds]

    def term(self, text, free):
        """The value of a term over its free indices."""
        sign, text = (-1, text[1:]) if text[0] == "-" else (1, text.removeprefix("+"))
        found = re.fullmatch(r"(.*?) ?Σ_\{(.+?)\} (.*)", text)
        front, sums, body = found.groups() if found else ("", "", text)
        over = re.findall(INDEX, sums)
        letters = [*free, *over]
        grid = {i: np.arange(self.sizes[SETS[i[0]]]).reshape(
            [-1 if j == i else 1 for j in letters]) for i in letters}  # fmt: skip
        names = {"sqrt": np.sqrt, "pi": np.pi}

        def named(found):
            average, of, name, called, below = found.groups()
            key = f"v{len(names)}"
            at = tuple(re.findall(INDEX, called or below or ""))
            if average:
                names[key] = self.average(average, of or "C", grid)
            elif (name, len(at), lead_of(at)) in self.values:
                array = self.values[name, len(at), lead_of(at)]
                names[key] = array[self._at(name, at, grid)] if at else array
            else:
                names[key] = self.scalars[name + (f"_{below}" if below else "")]
            return key

        code = self.token.sub(named, f"({front or 1})*({body})")
        value = eval(code, names)  # noqa: S307, as the page is ours
        result = np.broadcast_to(value, [self.sizes[SETS[i[0]]] for i in letters])
        return sign * result.sum(tuple(range(len(free), len(letters))))

    def _line(self, left, operator, right):
        name, at = split_left(left)
        key = name, len(at), lead_of(at)
        if key not in self.values:
            self.values[key] = np.zeros(self._shape(name, at))
        if right.endswith("⁺"):
            inner = split_left(right[1:-2])[0]
            self.values[key] = np.linalg.pinv(self.values[inner, *key[1:]])
            return
        free = list(dict.fromkeys(at))
        total = sum(self.term(term, free) for term in top_level_terms(right))
        if not at:
            self.values[key] = self.values[key] * (operator == "+=") + total
            return
        grid = {i: np.arange(self.sizes[SETS[i[0]]]).reshape(
            [-1 if j == i else 1 for j in free]) for i in free}  # fmt: skip
        where = self._at(name, at, grid)
        self.values[key][where] = total + self.values[key][where] * (operator == "+=")

"""Machine code from generated loops: a small subset of Python, through LLVM.

The subset is what the loops need: numbers, one-dimensional arrays of floats, ``for … in range``,
``while``, ``if``, arithmetic, comparisons, and calls of functions in the same text. Sizes are
constants, so that small loops unroll; every array is known not to overlap any other. Going to
LLVM without numba's type inference takes a quarter of its compile time.
"""

from __future__ import annotations

import ast
import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from theory.generation.homes import ARRAY, BOOL, FLOAT, HOMES, INT, is_routine, kinds_of, text_of

STACK = 16384
"""Arrays that have at most this many entries in all lie on the stack, others in the work space."""
LENGTHS = {
    "8": ", !llvm.loop !2", "12": ", !llvm.loop !3", "16": ", !llvm.loop !4",
    "24": ", !llvm.loop !5", "32": ", !llvm.loop !6",
}  # fmt: skip
"""Innermost loops over a few whole vectors run these side by side: a processor does not look far
enough ahead to overlap long chains of operations by itself."""
FAST = "nsz arcp contract reassoc"
"""Sums may be taken in another order and divisions by reciprocals; no step loses accuracy else."""
ARITHMETIC = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul"}
COMPARISONS = {ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt", ast.GtE: "ge", ast.Eq: "eq"}
LIBRARY = {
    "sqrt": "llvm.sqrt.f64", "rsqrt": "rsqrt", "abs": "llvm.fabs.f64", "two_to": "two_to",
    "min": "llvm.minnum.f64", "max": "llvm.maxnum.f64", "maximum": "llvm.maxnum.f64",
    "minimum": "llvm.minnum.f64", "floor": "llvm.floor.f64",
    "ceil": "llvm.ceil.f64", "copysign": "llvm.copysign.f64",
}  # fmt: skip
Value = tuple[str, str]
"""An operand of LLVM and its type."""


class UnsupportedError(ValueError):
    """The flow needs a numeric routine that the compiled tier does not have."""


def number_of(value: float) -> str:
    """A float in LLVM's language, to the last bit."""
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


def arrays_of(function: ast.FunctionDef) -> dict[str, ast.expr]:
    """The arrays that a function makes by ``empty(size)``, and their sizes."""
    return {
        node.targets[0].id: node.value.args[0]
        for node in function.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Call)
        and getattr(node.value.func, "id", "") == "empty"
    }


def whole(node: ast.expr, sizes: Mapping[str, int]) -> int:
    """The value of a product or a sum of sizes."""
    if isinstance(node, ast.Constant):
        return int(str(node.value))
    if isinstance(node, ast.Name):
        return sizes[node.id]
    if not isinstance(node, ast.BinOp):
        raise TypeError(f"no size: {ast.unparse(node)}")
    left, right = whole(node.left, sizes), whole(node.right, sizes)
    if isinstance(node.op, ast.Mult):
        return left * right
    return left + right if isinstance(node.op, ast.Add) else left // right


def depth(body: Sequence[ast.stmt]) -> int:
    """How many loops stand within each other."""
    return max((1 + depth(part.body) for part in body if isinstance(part, ast.For)), default=0)


class Emitter:
    """Writes one function. Every variable has a place on the stack, which LLVM then removes."""

    def __init__(
        self,
        function: ast.FunctionDef,
        kinds: Sequence[str],
        sizes: Mapping[str, int],
        others: Mapping[str, str],
        result: str = "void",
        work: int = 0,
        constants: Mapping[str, Any] | None = None,
        near: Mapping[str, ast.FunctionDef] | None = None,
    ) -> None:
        self.function, self.sizes, self.others, self.result = function, sizes, others, result
        self.constants, self.near = constants or {}, near or {}
        self.called: set[str] = set()
        self.lines: list[str] = []
        self.entry: list[str] = []
        self.count = 0
        self.kinds: dict[str, str] = {}
        self.places: dict[str, str] = {}
        self.stack, self.work = 0, work
        self.offsets: list[tuple[str, int]] = []
        names = [a.arg for a in function.args.args if a.arg not in {*sizes, *others}]
        self.arguments = list(zip(names, kinds, strict=True))

    def write(self) -> str:
        """The function in LLVM's language."""
        for name, kind in self.arguments:
            if kind == ARRAY:
                self.kinds[name], self.places[name] = ARRAY, f"%{name}"
            else:
                self._store(name, (f"%{name}", kind))
        for name, size in arrays_of(self.function).items():
            number = whole(size, {**self.constants, **self.sizes})
            if self._fits(number):
                self.entry.append(f"%{name} = alloca [{max(number, 1)} x double], align 64")
            else:
                self.offsets.append((name, self.work))
                self.work += -(-number // 8) * 8
            self.kinds[name], self.places[name] = ARRAY, f"%{name}"
        for statement in self.function.body:
            self.statement(statement)
        if self.result == "void":
            self.line("ret void")
        heads = [f"{k} noalias %{n}" if k == ARRAY else f"{k} %{n}" for n, k in self.arguments]
        heads += [f"ptr noalias %{name}" for name, _ in self.offsets]
        body = "\n  ".join(["entry:", *self.entry, "br label %start", "start:", *self.lines])
        name = self.function.name
        return f"define internal {self.result} @{name}({', '.join(heads)}) #0 {{\n{body}\n}}"

    def _fits(self, number: int) -> bool:
        """Whether an array still fits on the stack; counts it if so. Functions that are
        called by another have no other room."""
        if self.function.name in HOMES or self.function.name in self.near:
            return True
        if number > STACK // 4 or self.stack + number > STACK:
            return False
        self.stack += number
        return True

    # ── statements ───────────────────────────────────────────────────────────────────────────

    def line(self, text: str) -> None:
        self.lines.append(text)

    def new(self, text: str, kind: str) -> Value:
        self.count += 1
        self.lines.append(f"%r{self.count} = {text}")
        return f"%r{self.count}", kind

    def label(self) -> str:
        self.count += 1
        return f"b{self.count}"

    def statement(self, node: ast.stmt) -> None:
        """Code of one statement."""
        match node:
            case ast.Assign(targets=[ast.Name(name)], value=value):
                if name not in self.places or self.kinds[name] != ARRAY:
                    self._store(name, self.value(value))
            case ast.Assign(targets=[ast.Subscript() as target], value=value):
                given = self.float(value)
                self.line(f"store double {given}, ptr {self.address(target)}")
            case ast.AugAssign(target=target, op=op, value=value):
                read = ast.parse(ast.unparse(target), mode="eval").body
                total = ast.BinOp(read, op, value)
                self.statement(ast.Assign([target], total))
            case ast.For(target=ast.Name(name), iter=ast.Call(args=bounds), body=body):
                self._for(name, bounds, body)
            case ast.While(test=test, body=body):
                self._while(test, body)
            case ast.If(test=test, body=body, orelse=orelse):
                self._if(test, body, orelse)
            case ast.Return(value=ast.expr() as value):
                given, kind = self.value(value)
                self.line(f"ret {kind} {given}")
            case ast.Expr(value=ast.Call() as call):
                self.call(call)
            case ast.Expr(value=ast.Constant()):
                pass
            case _:
                raise UnsupportedError(f"no machine code for {ast.unparse(node)}")

    def _store(self, name: str, value: Value) -> None:
        text, kind = value
        if name not in self.places:
            self.places[name], self.kinds[name] = f"%v.{name}", kind
            self.entry.append(f"%v.{name} = alloca {kind}")
        if kind != self.kinds[name]:
            text, kind = self.new(f"sitofp i64 {text} to double", FLOAT)
        self.line(f"store {kind} {text}, ptr {self.places[name]}")

    def _for(self, name: str, bounds: list[ast.expr], body: list[ast.stmt]) -> None:
        first = ("0", INT) if len(bounds) == 1 else self.value(bounds[0])
        last, _ = self.value(bounds[-1])
        self._store(name, first)
        head, inside, after = self.label(), self.label(), self.label()
        self.line(f"br label %{head}\n{head}:")
        now, _ = self.value(ast.Name(name))
        more, _ = self.new(f"icmp slt i64 {now}, {last}", BOOL)
        self.line(f"br i1 {more}, label %{inside}, label %{after}\n{inside}:")
        for statement in body:
            self.statement(statement)
        now, _ = self.value(ast.Name(name))
        self._store(name, self.new(f"add nuw nsw i64 {now}, 1", INT))
        kept = (LENGTHS.get(last, ""), ", !llvm.loop !0", ", !llvm.loop !1")[min(depth(body), 2)]
        self.line(f"br label %{head}{kept}\n{after}:")

    def _while(self, test: ast.expr, body: list[ast.stmt]) -> None:
        head, inside, after = self.label(), self.label(), self.label()
        self.line(f"br label %{head}\n{head}:")
        more, _ = self.value(test)
        self.line(f"br i1 {more}, label %{inside}, label %{after}\n{inside}:")
        for statement in body:
            self.statement(statement)
        self.line(f"br label %{head}\n{after}:")

    def _if(self, test: ast.expr, body: list[ast.stmt], orelse: list[ast.stmt]) -> None:
        yes, no, after = self.label(), self.label(), self.label()
        condition, _ = self.value(test)
        self.line(f"br i1 {condition}, label %{yes}, label %{no}")
        for label, part in ((yes, body), (no, orelse)):
            self.line(f"{label}:")
            for statement in part:
                self.statement(statement)
            self.line(f"br label %{after}")
        self.line(f"{after}:")

    # ── expressions ──────────────────────────────────────────────────────────────────────────

    def value(self, node: ast.expr) -> Value:
        """Code of an expression."""
        match node:
            case ast.Constant(value=bool() | str()):
                raise UnsupportedError(ast.unparse(node))
            case ast.Constant(value=int(number)):
                return str(number), INT
            case ast.Constant(value=float(number)):
                return number_of(number), FLOAT
            case ast.Name(name):
                return self._name(name)
            case ast.Subscript():
                return self.new(f"load double, ptr {self.address(node)}", FLOAT)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                text, kind = self.value(operand)
                if kind == INT:
                    return self.new(f"sub i64 0, {text}", INT)
                return self.new(f"fneg {FAST} double {text}", FLOAT)
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return self.value(operand)
            case ast.BinOp(left=left, op=op, right=right):
                return self._binary(left, op, right)
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                return self._compare(left, op, right)
            case ast.BoolOp(op=op, values=[left, right]):
                a, b = self.value(left)[0], self.value(right)[0]
                return self.new(f"{'and' if isinstance(op, ast.And) else 'or'} i1 {a}, {b}", BOOL)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                condition, _ = self.value(test)
                a, b = self.float(body), self.float(orelse)
                return self.new(f"select i1 {condition}, double {a}, double {b}", FLOAT)
            case ast.Call():
                return self.call(node)
        raise UnsupportedError(f"no machine code for {ast.unparse(node)}")

    def float(self, node: ast.expr) -> str:
        """Code of an expression, as a float."""
        text, kind = self.value(node)
        return text if kind == FLOAT else self.new(f"sitofp i64 {text} to double", FLOAT)[0]

    def _name(self, name: str) -> Value:
        if name == "pi":
            return self.value(ast.Constant(math.pi))
        if name in self.sizes and name not in self.places:
            return str(self.sizes[name]), INT
        if name not in self.places and name in self.constants:
            if isinstance(self.constants[name], int | float):
                return self.value(ast.Constant(self.constants[name]))
            return f"@{name}", ARRAY
        if name not in self.places:
            raise UnsupportedError(f"{name} has no value")
        kind = self.kinds[name]
        if kind == ARRAY:
            return self.places[name], ARRAY
        return self.new(f"load {kind}, ptr {self.places[name]}", kind)

    def _binary(self, left: ast.expr, op: ast.operator, right: ast.expr) -> Value:
        (a, first), (b, second) = self.value(left), self.value(right)
        if first == second == INT and not isinstance(op, ast.Div):
            if isinstance(op, ast.FloorDiv):
                return self.new(f"sdiv i64 {a}, {b}", INT)
            return self.new(f"{ARITHMETIC[type(op)]} nsw i64 {a}, {b}", INT)
        if first == INT:
            a = self.new(f"sitofp i64 {a} to double", FLOAT)[0]
        if second == INT:
            b = self.new(f"sitofp i64 {b} to double", FLOAT)[0]
        if isinstance(op, ast.Pow):
            return self.new(f"call double @llvm.pow.f64(double {a}, double {b})", FLOAT)
        name = "fdiv" if isinstance(op, ast.Div) else f"f{ARITHMETIC[type(op)]}"
        return self.new(f"{name} {FAST} double {a}, {b}", FLOAT)

    def _compare(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Value:
        (a, first), (b, second) = self.value(left), self.value(right)
        name = COMPARISONS[type(op)]
        if first == second == INT:
            name = name if name == "eq" else f"s{name}"
            return self.new(f"icmp {name} i64 {a}, {b}", BOOL)
        a, b = self.float(left), self.float(right)
        return self.new(f"fcmp o{name} double {a}, {b}", BOOL)

    def address(self, node: ast.Subscript) -> str:
        """Code of the place of an entry."""
        base, _ = self.value(node.value)
        at, _ = self.value(node.slice)
        return self.new(f"getelementptr inbounds double, ptr {base}, i64 {at}", ARRAY)[0]

    def call(self, node: ast.Call) -> Value:
        """Code of a call."""
        name = getattr(node.func, "id", "")
        if name == "pair":
            k, l = (self.value(argument)[0] for argument in node.args)
            big = self.new(f"call i64 @llvm.smax.i64(i64 {k}, i64 {l})", INT)[0]
            small = self.new(f"call i64 @llvm.smin.i64(i64 {k}, i64 {l})", INT)[0]
            up = self.new(f"add nsw i64 {big}, 1", INT)[0]
            twice = self.new(f"mul nsw i64 {big}, {up}", INT)[0]
            half = self.new(f"lshr exact i64 {twice}, 1", INT)[0]
            return self.new(f"add nsw i64 {half}, {small}", INT)
        if name == "int":
            return self.new(f"fptosi double {self.float(node.args[0])} to i64", INT)
        function = self.near.get(name) or (text_of(name) if name in HOMES else None)
        if function is not None and is_routine(function):
            return self._fill(function, node.args)
        if name in ("min", "max"):
            (a, first), (b, second) = (self.value(argument) for argument in node.args)
            if first == second == INT:
                return self.new(f"call i64 @llvm.s{name}.i64(i64 {a}, i64 {b})", INT)
        if name in LIBRARY or function is not None:
            target = LIBRARY.get(name, name)
            self.called |= {name} & HOMES.keys()
            given = ", ".join(f"double {self.float(argument)}" for argument in node.args)
            return self.new(f"call {FAST} double @{target}({given})", FLOAT)
        if name in self.others:
            given = ", ".join(f"ptr {self.value(argument)[0]}" for argument in node.args)
            self.line(f"call void @{self.others[name]}({given})")
            return "", "void"
        raise UnsupportedError(f"{name} is evaluated by a numeric routine")

    def _fill(self, function: ast.FunctionDef, arguments: Sequence[ast.expr]) -> Value:
        """Code of a call that fills arrays; sizes are known where it is compiled."""
        kinds, given = kinds_of(function), []
        for argument, kind, value in zip(function.args.args, kinds, arguments, strict=True):
            if argument.arg in self.sizes:
                if ast.unparse(value) != argument.arg:
                    raise ValueError(f"{function.name}: {argument.arg} is a size known beforehand")
            else:
                code = self.float(value) if kind == FLOAT else self.value(value)[0]
                given.append(f"{kind} {code}")
        self.called |= {function.name} & HOMES.keys()
        self.line(f"call void @{function.name}({', '.join(given)})")
        return "", "void"

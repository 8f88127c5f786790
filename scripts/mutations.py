"""Small faults that ``mutate.py`` puts into a source file, one at a time: what they are and how they are written down.

Left alone: docstrings, annotations, decorators, imports and texts for people (strings with a blank, f-strings).
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass

COMPARISONS = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
ARITHMETIC = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
PAIRS = (("min", "max"), ("minimum", "maximum"), ("amin", "amax"), ("argmin", "argmax"), ("any", "all"))
SWAPPED = {a: b for pair in PAIRS for a, b in (pair, pair[::-1])}
DELETABLE = (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Expr, ast.Raise, ast.Break, ast.Continue, ast.Delete)
SETTLED = (ast.Import, ast.ImportFrom, ast.JoinedStr, ast.Global, ast.Nonlocal)
BLOCKS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.If, ast.For, ast.While, ast.With, ast.Try)


@dataclass(frozen=True)
class Mutation:
    """One fault. ``place``: the way from the module to what is replaced, fields and positions. ``line``: where it
    starts. ``lines``: first and last line of its statement. ``original``, ``mutant``: the source line without and
    with it.
    """

    file: str
    place: tuple[str | int, ...]
    new: ast.AST
    line: int
    lines: tuple[int, int]
    original: str
    mutant: str

    @property
    def key(self) -> str:
        """What names it in lists: no line number, so that edits elsewhere in the file do not matter."""
        return f"{self.file}: {self.original} -> {self.mutant}"

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.original} -> {self.mutant}"

    def apply(self, source: str) -> ast.Module:
        """The module with the fault in it."""
        tree = parent = ast.parse(source)
        for step in self.place[:-1]:
            parent = parent[step] if isinstance(step, int) else getattr(parent, step)
        last = self.place[-1]
        new = ast.copy_location(
            copy.deepcopy(self.new), parent[last] if isinstance(last, int) else getattr(parent, last)
        )
        if isinstance(last, int):
            parent[last] = new
        else:
            setattr(parent, last, new)
        return ast.fix_missing_locations(tree)


def mutations_of(source: str, file: str) -> list[Mutation]:
    """Every fault of this module that ``source`` can be given, from its first line to the last."""
    lines = source.splitlines()
    found = []
    for place, node, statement, inside in _places(ast.parse(source), (), None, False):
        for new in _variants(node, inside):
            original, mutant = _written(lines, node, new)
            found.append(Mutation(file, place, new, node.lineno, _reach(statement), original, mutant))
    return sorted(found, key=lambda mutation: (mutation.line, mutation.lines))


def _places(
    node: ast.AST, place: tuple[str | int, ...], statement: ast.stmt | None, inside: bool
) -> Iterator[tuple[tuple[str | int, ...], ast.AST, ast.stmt, bool]]:
    """Everything that may be replaced: its place, itself, its statement and whether that is part of a function."""
    if isinstance(node, SETTLED) or _is_docstring(node):
        return
    if isinstance(node, ast.stmt):
        statement = node
    if statement is not None and hasattr(node, "lineno"):
        yield place, node, statement, inside
    function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "ctx"):
            continue
        below = inside or (function and field == "body")
        # A None beside "is" would say what the turned comparison says.
        if isinstance(node, ast.Compare) and field == "comparators" and isinstance(node.ops[0], (ast.Is, ast.IsNot)):
            continue
        if isinstance(value, ast.AST):
            yield from _places(value, (*place, field), statement, below)
        elif isinstance(value, list):
            for i, child in enumerate(value):
                if isinstance(child, ast.AST):
                    yield from _places(child, (*place, field, i), statement, below)


def _variants(node: ast.AST, inside: bool) -> Iterator[ast.AST]:
    """What may stand in place of ``node``. Statements are taken out of functions only: elsewhere nothing would load."""
    if isinstance(node, ast.Compare):
        for i, op in enumerate(node.ops):
            for other in COMPARISONS[type(op)]:
                yield _with(node, ops=[*node.ops[:i], other(), *node.ops[i + 1 :]])
    elif isinstance(node, ast.BoolOp):
        yield _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
        for i in range(len(node.values)):
            rest = node.values[:i] + node.values[i + 1 :]
            yield _with(node, values=rest) if len(rest) > 1 else rest[0]
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, (ast.BinOp, ast.AugAssign)):
        if type(node.op) in ARITHMETIC:
            yield _with(node, op=ARITHMETIC[type(node.op)]())
    elif isinstance(node, ast.Constant):
        yield from map(ast.Constant, _other_values(node.value))
    elif isinstance(node, ast.Call):
        yield from _other_calls(node)
    elif isinstance(node, ast.IfExp):
        yield from (node.body, node.orelse)
    elif isinstance(node, ast.If):
        yield from (_with(node, test=ast.Constant(value)) for value in (True, False))
    elif isinstance(node, ast.While) and not isinstance(node.test, ast.Constant):
        yield _with(node, test=ast.Constant(False))
    if inside:
        if isinstance(node, ast.Return):
            if not isinstance(node.value, (ast.Constant, type(None))):  # a constant gets another value anyway
                yield ast.Return(ast.Constant(None))
        elif isinstance(node, DELETABLE) and getattr(node, "value", node) is not None:
            yield ast.Pass()
        if isinstance(node, ast.Continue):
            yield ast.Break()


def _other_values(value: object) -> tuple:
    if value is None:
        return (0,)
    if isinstance(value, bool):
        return (not value,)
    if isinstance(value, int):
        return (value + 1, value - 1)
    if isinstance(value, float):
        return (value * 2, value / 2) if value else (1.0,)
    if isinstance(value, str) and value and " " not in value:
        return (value + "_",)  # a name: somebody compares it
    return ()


def _other_calls(node: ast.Call) -> Iterator[ast.AST]:
    """The opposite function, an absolute value left out, and the other bound where a keyword names one."""
    name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
    field = "id" if isinstance(node.func, ast.Name) else "attr"
    if name in SWAPPED:
        yield _with(node, func=_with(node.func, **{field: SWAPPED[name]}))
    if name == "abs":
        yield node.args[0] if node.args else node.func.value
    for i, keyword in enumerate(node.keywords):
        if keyword.arg in ("min", "max"):
            other = ast.keyword(SWAPPED[keyword.arg], keyword.value)
            yield _with(node, keywords=[*node.keywords[:i], other, *node.keywords[i + 1 :]])


def _with(node: ast.AST, **fields: object) -> ast.AST:
    """A copy of ``node`` in which ``fields`` differ."""
    new = copy.copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _reach(statement: ast.stmt) -> tuple[int, int]:
    """First and last line of a statement, without the body of a block."""
    if isinstance(statement, BLOCKS):
        return statement.lineno, max(statement.lineno, statement.body[0].lineno - 1)
    return statement.lineno, statement.end_lineno


def _written(lines: list[str], node: ast.AST, new: ast.AST) -> tuple[str, str]:
    """The source line, or the lines of an expression that goes over several, without and with the fault."""
    first, last = node.lineno - 1, node.end_lineno - 1
    if isinstance(node, (ast.If, ast.While)):
        text = _line(lines[first])
        return text, f"{text.split()[0]} {ast.unparse(new.test)}:"
    if isinstance(node, ast.stmt) and isinstance(new, (ast.Pass, ast.Return, ast.Break)):
        return _line(lines[first]), ast.unparse(new)
    before = lines[first].encode()[: node.col_offset].decode()
    after = lines[last].encode()[node.end_col_offset :].decode()
    return _line(" ".join(lines[first : last + 1])), _line(f"{before}{ast.unparse(new)}{after}")


def _line(text: str) -> str:
    """Without the comment behind it."""
    return " ".join(text.split("  #")[0].split())

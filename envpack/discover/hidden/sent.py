"""What a function takes along as a value when it is sent, and what that needs where it is unpickled.

From version 3 on, a table of pandas keeps its texts, the names of its columns among them, in arrays of pyarrow where
that is installed: whoever unpickles the table needs pyarrow, too.
"""

from __future__ import annotations

from collections.abc import Iterator

from envpack.discover.code import syntax as ast
from envpack.discover.code.codefile import CodeFile
from envpack.discover.code.scopes import Scope
from envpack.discover.environment.finder import ModuleFinder
from envpack.discover.hidden.uses import Need

_TABLES = frozenset(
    {
        *("DataFrame", "read_csv", "read_table", "read_json", "read_excel", "read_parquet", "read_sql", "read_fwf"),
        *("concat", "merge", "json_normalize", "crosstab", "pivot_table", "get_dummies", "read_html", "read_feather"),
    }
)
# Methods of a table that give a table.
_GIVING = frozenset(
    {
        *("set_index", "reset_index", "dropna", "sort_values", "sort_index", "head", "tail", "copy", "astype"),
        *("rename", "assign", "fillna", "query", "drop", "convert_dtypes", "drop_duplicates", "sample"),
    }
)
_PLAIN = frozenset({"float", "int", "str", "len", "bool", "bytes", "ord", "repr", "hash"})
_KEPT_TEXTS = 3

# Plain numbers that libraries have among their names; of `scipy.constants` all but these few are.
_NUMBERS = {
    "numpy": frozenset({"pi", "e", "inf", "nan", "euler_gamma", "newaxis", "little_endian"}),
    "torch": frozenset({"pi", "e", "inf", "nan"}),
}
_NO_NUMBERS = frozenset(
    {"value", "unit", "precision", "find", "convert_temperature", "lambda2nu", "nu2lambda", "ConstantWarning", "codata"}
)


def sent_needs(value: ast.expr, scope: Scope, file: CodeFile, finder: ModuleFinder) -> Iterator[Need]:
    """Give what the value of a global needs that is sent along."""
    held = [value, *value.args] if isinstance(value, ast.Call) else [value]
    if any(_is_table(one, scope, file) for one in held) and _keeps_texts(finder):
        yield Need((("pyarrow",),), "pandas: DataFrame", file.path, value.lineno, False, False)


def is_plain(value: ast.expr | None, scope: Scope) -> bool:
    """Whether a value is a number or text that a built-in function has made: how it came about does not travel."""
    if not isinstance(value, ast.Call) or not isinstance(value.func, ast.Name):
        return False
    return value.func.id in _PLAIN and not scope.lookup(value.func.id)


def is_number(module: str, name: str) -> bool:
    """Whether a name that is imported from a module is a plain number, which a function takes along as such."""
    if module == "scipy.constants":
        return name not in _NO_NUMBERS and name != "*"
    return name in _NUMBERS.get(module, ())


def _is_table(node: ast.expr, scope: Scope, file: CodeFile) -> bool:
    while isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _GIVING:
        node = node.func.value
    name = (file.qualify(node.func, scope) or "") if isinstance(node, ast.Call) else ""
    library, _, last = name.rpartition(".")
    if library.partition(".")[0] != "pandas" or last not in _TABLES:
        return False
    assert isinstance(node, ast.Call)
    return last != "DataFrame" or not _is_unnamed(node, scope, file)


def _is_unnamed(node: ast.Call, scope: Scope, file: CodeFile) -> bool:
    """Whether the columns of a new table have no names: it is made of an array."""
    first = node.args[0] if node.args else None
    is_array = isinstance(first, ast.Call) and (file.qualify(first.func, scope) or "").startswith("numpy.")
    return is_array and all(item.arg != "columns" for item in node.keywords)


def _keeps_texts(finder: ModuleFinder) -> bool:
    pandas, arrow = (finder.find(name).distribution for name in ("pandas", "pyarrow"))
    major = pandas.version.partition(".")[0] if pandas is not None and arrow is not None else ""
    return major.isdigit() and int(major) >= _KEPT_TEXTS

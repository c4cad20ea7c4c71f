"""Calls that execute local files, programs in other processes, and magic commands of notebooks.

`runpy.run_path("x.py")`, `exec(open("x.py").read())`, `[sys.executable, "-m", "x"]`, `["black", "."]`, `%run x.py`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from envpack.discover.code import syntax as ast
from envpack.discover.code.nodes import all_nodes, last_name
from envpack.discover.code.source import parse_text
from envpack.discover.loads.opened import existing, opened_paths
from envpack.discover.loads.values import CallSite, Load, Reader, computed, is_dotted

_MAX_DEPTH = 8
# Stands for the running interpreter in the words of a command.
_PYTHON = "{sys.executable}"
_PYTHONS = r"(?:.*[\\/])?python(?:3(?:\.\d+)?)?(?:\.exe)?$|^\{sys\.executable\}$"
_SEPARATORS = r"&&|\|\||[;|\n]"
_INSTALLERS = frozenset({"pip", "pip3", "conda", "mamba", "uv", "apt", "apt-get", "brew"})
_OWN_EXTENSIONS = frozenset({"autoreload", "storemagic"})


def interactive_name(node: ast.Call) -> str | None:
    """Return the name under which a call of `get_ipython()` is looked up; `None` for any other call."""
    function = node.func
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Call):
        inner = function.value.func
        if isinstance(inner, ast.Name) and inner.id == "get_ipython":
            return f"get_ipython().{function.attr}"
    return None


def _run_path(site: CallSite) -> Iterator[Load]:
    return _local(site, site.argument(0, "path_name"))


def _from_file(site: CallSite) -> Iterator[Load]:
    for keyword in ("location", "pathname", "path"):
        if (node := site.argument(1, keyword)) is not None:
            return _local(site, node)
    return iter(())


def _local(site: CallSite, node: ast.expr | None) -> Iterator[Load]:
    paths = opened_paths(site, node)
    for path in paths:
        found = existing(site, path) or existing(site, os.path.join(path, "__main__.py"))
        if found.endswith((".py", ".ipynb")):
            yield Load("file", found)
        elif not found:
            yield Load("question", f"{site.name} executes {path!r}, which is not there: pass --include DIST")
    if not paths:
        yield Load("question", f"{site.name} executes a file whose path is computed: pass --include DIST")


def _exec(site: CallSite) -> Iterator[Load]:
    """Read code that is executed: a constant, or the content of a local file."""
    node = site.argument(0, "source")
    paths = [found for path in opened_paths(site, node) if (found := existing(site, path))]
    yield from (Load("file", path) for path in paths)
    texts = [] if paths else site.texts(_source(site, node))
    for text in texts:
        yield from _code(text)
    if not texts and not paths:
        yield Load("question", f"{site.name} executes code that is computed: pass --include DIST for what it imports")


def _source(site: CallSite, node: ast.expr | None) -> ast.expr | None:
    """Return what a compiled code was before: the text of `compile(text, name, "exec")`, or of a name for that."""
    found = site.scope.lookup(node.id) if isinstance(node, ast.Name) else []
    value = found[-1].value if found else node
    is_compiled = isinstance(value, ast.Call) and last_name(value.func) == "compile" and value.args
    return value.args[0] if is_compiled and isinstance(value, ast.Call) else node


def _timed(site: CallSite) -> Iterator[Load]:
    """Read code that is measured: `timeit.timeit("f(x)", setup="from a import f")`."""
    for node in (site.argument(0, "stmt"), site.argument(1, "setup")):
        for text in site.texts(node):
            yield from _code(text)


def _evaluated(site: CallSite) -> Iterator[Load]:
    for text in site.texts(site.node.args[0] if site.node.args else None):
        yield from _code(text)


def _code(text: str) -> Iterator[Load]:
    """Give the modules that a piece of source imports absolutely."""
    tree = parse_text(text)
    for node in all_nodes(tree) if tree is not None else ():
        if isinstance(node, ast.Call) and last_name(node.func) in ("__import__", "import_module"):
            names = [one.value for one in node.args[:1] if isinstance(one, ast.Constant) and isinstance(one.value, str)]
            yield from (Load("module", name) for name in names if is_dotted(name))
        if isinstance(node, ast.Import):
            yield from (Load("module", alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield Load("module", node.module)


def _subprocess(site: CallSite) -> Iterator[Load]:
    yield from _command(site, site.argument(0, "args"))


def _exec_process(site: CallSite) -> Iterator[Load]:
    """Read `os.execvp(file, [words])`: the words name the program again."""
    yield from _command(site, site.argument(1, "args"))


def _spawn(site: CallSite) -> Iterator[Load]:
    """Read words that are arguments themselves: `create_subprocess_exec(sys.executable, "-m", "x")`."""
    yield from _words_load(site, [_word(site, node) for node in site.node.args])


def _command(site: CallSite, node: ast.expr | None) -> Iterator[Load]:
    if (words := _words(site, node, 0)) is not None:
        yield from _words_load(site, words)
    else:
        for value in site.values(node):
            if isinstance(value, str):
                yield from _shell(site, value)
            elif isinstance(value, tuple) and all(isinstance(word, str) for word in value):
                yield from _words_load(site, [[str(word)] for word in value])


def _shell_command(site: CallSite) -> Iterator[Load]:
    for text in site.texts(site.node.args[0] if site.node.args else None):
        yield from _shell(site, text)


def _shell(site: CallSite, text: str) -> Iterator[Load]:
    import re

    for part in re.split(_SEPARATORS, text):
        try:
            import shlex

            words = shlex.split(part, comments=True)
        except ValueError:  # quotes that do not match: not a command that we understand
            continue
        yield from _words_load(site, [[word] for word in words])


def _words(site: CallSite, node: ast.expr | None, depth: int) -> list[list[str]] | None:
    """Return for each word of a list of words what it can be; `None` if there is no list."""
    if depth > _MAX_DEPTH:
        return None
    if isinstance(node, ast.List | ast.Tuple):
        return [word for element in node.elts for word in _spread(site, element, depth)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left = _words(site, node.left, depth + 1)
        return [*left, *(_words(site, node.right, depth + 1) or [[]])] if left is not None else None
    if isinstance(node, ast.Name):
        values = [binding.value for binding in site.scope.lookup(node.id)]
        found = [words for value in values if (words := _words(site, value, depth + 1)) is not None]
        folded = [value for value in site.values(node) if isinstance(value, tuple)] if not found else []
        found += [[[str(word)] for word in value] for value in folded]
        return found[-1] if found else None
    return None


def _spread(site: CallSite, node: ast.expr, depth: int) -> list[list[str]]:
    """Return the words that an element of a list is: several for `*command`."""
    if isinstance(node, ast.Starred):
        return _words(site, node.value, depth + 1) or [[]]
    return [_word(site, node)]


def _word(site: CallSite, node: ast.expr) -> list[str]:
    return [_PYTHON] if site.file.qualify(node, site.scope) == "sys.executable" else site.texts(node)


def _words_load(site: CallSite, words: Sequence[list[str]]) -> Iterator[Load]:
    import re

    for first in words[0] if words else ():
        if re.match(_PYTHONS, first):
            yield from _python(site, words[1:])
        else:
            yield Load("command", first)


def _python(site: CallSite, words: Sequence[list[str]]) -> Iterator[Load]:
    """Read the words that follow an interpreter."""
    for position, word in enumerate(words):
        following = words[position + 1] if position + 1 < len(words) else []
        if word in (["-m"], ["-c"]):
            if word == ["-c"]:
                yield from (load for text in following for load in _code(text))
            else:
                names = [name for name in following if is_dotted(name)]
                yield from (Load("program", name) for name in names)
                if not names:
                    yield computed(site)
            return
        if not any(text.startswith("-") for text in word):
            found = [path for text in word if text.endswith(".py") and (path := existing(site, text))]
            yield from (Load("script", path) for path in found)
            return


def _which(site: CallSite) -> Iterator[Load]:
    yield from (Load("lookup", name) for name in site.texts(site.argument(0, "cmd")))


def _magic(site: CallSite) -> Iterator[Load]:
    names = site.texts(site.argument(0, "magic_name"))
    for line in site.texts(site.argument(1, "line")):
        for name in names:
            yield from _line_magic(site, name, line.split())


def _old_magic(site: CallSite) -> Iterator[Load]:
    for text in site.texts(site.argument(0, "arg_s")):
        words = text.lstrip("%").split()
        yield from _line_magic(site, words[0] if words else "", words[1:])


def _line_magic(site: CallSite, name: str, words: list[str]) -> Iterator[Load]:
    plain = [word for word in words if not word.startswith("-")]
    if not plain:
        return
    if name == "run":
        if "-m" in words:
            yield Load("program", plain[0])
        elif found := existing(site, plain[0]) or existing(site, f"{plain[0]}.py"):
            yield Load("file", found)
        else:
            yield Load("question", f"%run executes {plain[0]!r}, which is not there: pass --include DIST")
    elif name in ("load_ext", "reload_ext") and plain[0] not in _OWN_EXTENSIONS:
        yield Load("module", plain[0])
    elif name == "matplotlib" and plain[0] in ("widget", "ipympl"):
        yield Load("module", "ipympl")


def _system(site: CallSite) -> Iterator[Load]:
    for load in _shell_command(site):
        # What a notebook installs is not what it needs.
        if load.kind != "command" or load.name not in _INSTALLERS:
            yield load


_SUBPROCESS = ("run", "Popen", "call", "check_call", "check_output")
_SHELL = ("subprocess.getoutput", "subprocess.getstatusoutput", "os.system", "os.popen")
_EXEC = ("execv", "execve", "execvp", "execvpe", "posix_spawn", "posix_spawnp")

EXECUTED: dict[str, Reader] = {
    "runpy.run_path": _run_path,
    "importlib.util.spec_from_file_location": _from_file,
    "importlib.machinery.SourceFileLoader": _from_file,
    "imp.load_source": _from_file,
    "exec": _exec,
    "builtins.exec": _exec,
    **dict.fromkeys(("timeit.timeit", "timeit.repeat", "timeit.Timer"), _timed),
    **dict.fromkeys(("eval", "builtins.eval", "cProfile.run", "cProfile.runctx", "profile.run"), _evaluated),
    **{f"subprocess.{name}": _subprocess for name in _SUBPROCESS},
    **{f"os.{name}": _exec_process for name in _EXEC},
    **dict.fromkeys((*_SHELL, "asyncio.create_subprocess_shell"), _shell_command),
    "asyncio.create_subprocess_exec": _spawn,
    "shutil.which": _which,
    "get_ipython().run_line_magic": _magic,
    "get_ipython().run_cell_magic": _magic,
    "get_ipython().magic": _old_magic,
    "get_ipython().system": _system,
    "get_ipython().getoutput": _system,
}

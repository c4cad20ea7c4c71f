"""Where a module is, as the import system of the asked interpreter would find it, without importing anything.

The rules are those of `importlib.machinery.PathFinder`: built-in modules first, then the folders of the search path in
order; in each a package wins over a module; folders without `__init__` become a namespace package only if nothing else
is found. Development installs with their own finder come last, as on `sys.meta_path`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property

from envpack.discover.environment.archives import listing
from envpack.discover.environment.distributions import DistributionIndex
from envpack.discover.environment.interpreter import Interpreter
from envpack.discover.environment.metadata import InstalledDistribution
from envpack.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal

    LocationKind = Literal["stdlib", "local", "distribution", "namespace", "missing"]

_MAX_DECLARATION = 8192


@dataclass(frozen=True, slots=True)
class Location:
    """Where a module is.

    Attributes:
        module: its full name.
        kind: what it belongs to; `namespace` is a package that is only a name for several folders.
        file: its source or extension file, or an empty string.
        folders: where its submodules are searched; empty unless it is a package.
        root: the folder from which it is importable.
        distribution: the distribution that owns the file; of a `local` one, that whose development install makes it
            importable.
    """

    module: str
    kind: LocationKind
    file: str = ""
    folders: tuple[str, ...] = ()
    root: str = ""
    distribution: InstalledDistribution | None = None


class ModuleFinder:
    """Finds modules for one interpreter and one program.

    Args:
        interpreter: whose environment is searched.
        index: the distributions of that environment.
        local_folders: searched before everything else, as Python does with the folder of the script.
    """

    def __init__(self, interpreter: Interpreter, index: DistributionIndex, local_folders: tuple[str, ...] = ()) -> None:
        self.interpreter = interpreter
        self.index = index
        self._locals = list(dict.fromkeys(local_folders))
        self._later: list[str] = []
        self._listings: dict[str, Mapping[str, bool]] = {}
        # What was found, by the folders of the program: the same for all programs that have the same.
        self._known: dict[tuple[object, ...], dict[str, Location]] = {}
        self._cache = self._known.setdefault(self.key, {})
        self.shelf: dict[object, Any] = {}

    def sibling(self) -> ModuleFinder:
        """Return a finder for another program in the same environment.

        No folder is read twice for them, nothing searched twice on the same path. They also share the `shelf`, on
        which programs leave for one another what depends on nothing but the environment and their `key`.
        """
        other = ModuleFinder(self.interpreter, self.index)
        other._listings, other._known, other.shelf = self._listings, self._known, self.shelf
        other._cache = other._known.setdefault(other.key, {})
        return other

    @property
    def key(self) -> tuple[object, ...]:
        """What tells the search path of this program from that of others in the same environment."""
        return tuple(self._locals), tuple(self._later)

    @property
    def local_folders(self) -> tuple[str, ...]:
        """The folders that the program adds to the search path."""
        return (*self._locals, *self._later)

    def add_folder(self, folder: str, *, first: bool) -> bool:
        """Search one more folder, as a program asks for that changes `sys.path`; return whether that is new."""
        path = os.path.abspath(folder)
        if path in self._locals or path in self._later or not os.path.isdir(path):
            return False
        if first:
            self._locals.insert(0, path)
        else:
            self._later.append(path)
        self._cache = self._known.setdefault(self.key, {})
        return True

    def find(self, module: str) -> Location:
        """Return where a module is; `kind` is `missing` where it is not installed."""
        if module not in self._cache:
            self._cache[module] = self._search(module)
        return self._cache[module]

    def _search(self, module: str) -> Location:
        if module in self.index.mapped_first:
            return self._mapped(module)
        parent, _, name = module.rpartition(".")
        if not parent:
            return self._search_top(module)
        above = self.find(parent)
        if above.kind in ("stdlib", "missing"):
            return Location(module, above.kind)
        found = self._search_folders(module, name, above.folders)
        return found if found.kind != "missing" else self._mapped(module)

    def _search_top(self, module: str) -> Location:
        if module in self.interpreter.builtin_modules or module == "__main__":
            return Location(module, "stdlib")
        is_standard = module in self.interpreter.stdlib_modules
        path = self._search_path
        # A name of the standard library can only be shadowed by what is searched before it.
        before = path[: path.index(self.interpreter.stdlib)] if self.interpreter.stdlib in path else self._locals
        found = self._search_folders(module, module, tuple(before if is_standard else path))
        if is_standard and found.kind in ("missing", "namespace"):
            return Location(module, "stdlib")
        return found if found.kind != "missing" else self._mapped(module)

    @property
    def _search_path(self) -> list[str]:
        return [*self._locals, *self.interpreter.sys_path, *self._later]

    def _search_folders(self, module: str, name: str, folders: tuple[str, ...]) -> Location:
        portions: list[str] = []
        for position, folder in enumerate(folders):
            listing = self._listing(folder)
            if listing.get(name) is True:
                package = os.path.join(folder, name)
                if file := self._module_file(package, "__init__"):
                    behind = [place for place in folders[position + 1 :] if self._listing(place).get(name) is True]
                    others = (*portions, *(os.path.join(place, name) for place in behind))
                    return self._located(module, file, (package, *(others if others and _is_shared(file) else ())))
                portions.append(package)
            if file := self._module_file(folder, name):
                return self._located(module, file, ())
        if portions:
            return Location(module, "namespace", folders=tuple(portions))
        return Location(module, "missing")

    def _module_file(self, folder: str, name: str) -> str:
        listing = self._listing(folder)
        for suffix in self._suffixes:
            if listing.get(name + suffix) is False:
                return os.path.join(folder, name + suffix)
        return ""

    @cached_property
    def _suffixes(self) -> tuple[str, ...]:
        soabi = self.interpreter.soabi
        return (*((f".{soabi}.so",) if soabi else ()), ".abi3.so", ".so", ".py", ".pyc")

    def _located(self, module: str, file: str, folders: tuple[str, ...]) -> Location:
        root = root_of(module, file)
        owner = self.index.owner(file, module, root)
        is_shipped = owner is not None and not self._is_loose(module, root, owner)
        return Location(module, "distribution" if is_shipped else "local", file, folders, root, owner)

    def _is_loose(self, module: str, root: str, owner: InstalledDistribution) -> bool:
        """Tell whether a development install makes a file importable that its layer does not hold.

        Its folder is on the search path, so everything in it can be imported: `tests/helpers.py` too, as part of a
        namespace package. What lies in no package of its own travels with the program that imports it.
        """
        top = module.partition(".")[0]
        is_folder = self._listing(root).get(top) is True
        return root in owner.import_folders and is_folder and not self._module_file(os.path.join(root, top), "__init__")

    def _mapped(self, module: str) -> Location:
        path = self._editable_paths.get(module)
        if path is None:
            # A namespace of which only packages inside it are mapped.
            is_above = any(name.startswith(f"{module}.") for name in self._editable_paths)
            return Location(module, "namespace" if is_above else "missing")
        if os.path.isdir(path):
            file = self._module_file(path, "__init__")
            folders: tuple[str, ...] = (path,)
        else:
            # Setuptools leaves out the suffix of a module that is no package.
            file = path if os.path.isfile(path) else self._module_file(*os.path.split(path))
            folders = (os.path.dirname(path),) if os.path.basename(path).startswith("__init__.") else ()
        if not file:
            return Location(module, "namespace" if folders else "missing", folders=folders)
        return self._located(module, file, folders)

    @cached_property
    def _editable_paths(self) -> dict[str, str]:
        return self.index.editable_paths()

    def _listing(self, folder: str) -> Mapping[str, bool]:
        """Return the names in a folder, and whether each is a folder itself."""
        if folder not in self._listings:
            self._listings[folder] = listing(folder)
        return self._listings[folder]


def _is_shared(file: str) -> bool:
    """Whether the `__init__` of a package extends it over all folders of its name, as older namespaces do."""
    try:
        with open(file, encoding="utf-8", errors="replace") as opened:
            text = opened.read(_MAX_DECLARATION)
    except OSError:
        return False  # whoever reads the package says so
    return "extend_path" in text or "declare_namespace" in text


def root_of(module: str, file: str) -> str:
    """Return the folder from which a file is importable as that module."""
    levels = module.count(".") + os.path.basename(file).startswith("__init__.")
    root = os.path.dirname(file)
    for _ in range(levels):
        root = os.path.dirname(root)
    return root

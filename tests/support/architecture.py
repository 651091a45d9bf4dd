"""The rules of the house, as functions from the modules of a project to sentences about what breaks a rule.

`tests/test_architecture.py` holds the project against them, and each rule against a small project that breaks it.
"""

import ast
import itertools
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

PACKAGE = "vdm_bench"
SHORT, CEILING = 80, 450  # lines of a module
LONGEST_FUNCTION = 40  # lines, without its head and docstring
LONGEST_TEST_NAME = 70


@dataclass(frozen=True)
class Module:
    """A module of the project.

    Attributes:
        name: dotted, as it is imported.
        text: its source.
        is_package: whether it is an `__init__`.
        known: names of all modules of the project.
    """

    name: str
    text: str
    is_package: bool
    known: Collection[str] = field(repr=False)

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def lines(self) -> int:
        return self.text.count("\n")

    @cached_property
    def imports(self) -> frozenset[str]:
        """Modules of the project that this one imports, wherever in its text."""
        found: set[str] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    found.add(whole if whole in self.known else node.module)
        return frozenset((found & set(self.known)) - {self.name})

    @cached_property
    def public_names(self) -> frozenset[str]:
        """The texts in its `__all__`, and in the constant `_HOMES` that an `__all__` takes its names from."""
        constants = {
            target.id: node.value
            for node in self.tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        if "__all__" not in constants:
            return frozenset()
        lists = [constants["__all__"]]
        if any(isinstance(node, ast.Name) and node.id == "_HOMES" for node in ast.walk(lists[0])):
            lists += [ast.List([key for key in constants["_HOMES"].keys if key])]  # type: ignore[attr-defined]
        texts = (node.value for each in lists for node in ast.walk(each) if isinstance(node, ast.Constant))
        return frozenset(map(str, texts))

    @property
    def package(self) -> str:
        return self.name if self.is_package else self.name.rpartition(".")[0]


Project = Mapping[str, Module]


def read_project(root: Path, folders: Mapping[str, str]) -> Project:
    """Read the modules below `root`: `folders` maps a folder to its import name."""
    texts: dict[str, tuple[str, bool]] = {}
    for folder, package in folders.items():
        for path in sorted((root / folder).rglob("*.py")):
            parts = path.relative_to(root / folder).with_suffix("").parts
            if folder == PACKAGE and parts[0] in folders:
                continue  # a link to a folder that is read by itself
            name = ".".join([package, *parts]).removesuffix(".__init__")
            texts[name] = path.read_text("utf-8"), path.name == "__init__.py"
    return make_project(texts)


def make_project(texts: Mapping[str, tuple[str, bool]]) -> Project:
    return {name: Module(name, text, package, texts.keys()) for name, (text, package) in texts.items()}


def room_of(name: str) -> str:
    """The first name below the package; the loose files of the ground floor belong to `runtime`."""
    parts = name.split(".")
    first = parts[1] if len(parts) > 1 else ""
    return "runtime" if first in ("errors", "version") else first


def arrows_up(project: Project, floors: Sequence[Collection[str]]) -> Iterator[str]:
    """Imports go to floors below. The package's own `__init__`, which names everything lazily, is left out."""
    height = {room: number for number, rooms in enumerate(floors) for room in rooms}
    for module in project.values():
        if module.name == PACKAGE:
            continue
        here = room_of(module.name)
        if here not in height:
            yield f"{module.name} is on no floor: add {here!r} to FLOORS"
            continue
        for imported in sorted(module.imports):
            there = room_of(imported)
            if imported == PACKAGE or (there != here and height.get(there, len(floors)) >= height[here]):
                yield (
                    f"{module.name} imports {imported}, which is not on a floor below: move what it needs "
                    "down, or hand it over as an argument"
                )


def walls_broken(project: Project, allowed: Mapping[str, Collection[str]]) -> Iterator[str]:
    """A library imports itself and what is allowed to it: modules, or packages with all they hold."""
    for module in project.values():
        here = room_of(module.name)
        if here not in allowed:
            continue
        for imported in sorted(module.imports):
            fine = [f"{PACKAGE}.{name}" for name in (here, *allowed[here])]
            if not any(imported == name or imported.startswith(f"{name}.") for name in fine):
                yield f"{module.name} imports {imported}: {here} may know only {', '.join(allowed[here])}"


def circles(project: Project) -> Iterator[str]:
    """Files that import one another in a circle, by Tarjan's strongly connected components."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []

    def visit(name: str) -> Iterator[list[str]]:
        order[name] = lowest[name] = len(order)
        stack.append(name)
        for imported in sorted(project[name].imports - {PACKAGE}):
            if imported not in order:
                yield from visit(imported)
                lowest[name] = min(lowest[name], lowest[imported])
            elif imported in stack:
                lowest[name] = min(lowest[name], order[imported])
        if lowest[name] == order[name]:
            start = stack.index(name)
            yield stack[start:]
            del stack[start:]

    for name in project:
        if name not in order and name != PACKAGE:
            for group in visit(name):
                if len(group) > 1:
                    names = " and ".join(sorted(group))
                    yield f"{names} import one another: move what both need into a third file"


def loose_files(project: Project, package: str, expected: Collection[str]) -> Iterator[str]:
    """Files that stand in a package beside its folders."""
    inside = (name for name, module in project.items() if module.package == package and not module.is_package)
    found = {name.rpartition(".")[2] for name in inside}
    for name in sorted(found - set(expected)):
        yield f"{package}.{name} is a new loose file: put it into the folder of its concept, or change the list"
    for name in sorted(set(expected) - found):
        yield f"{package}.{name} is in the list of loose files and is not there"


def prefix_families(project: Project) -> Iterator[str]:
    """Three files `x_...` side by side, or `x` beside `x_y`, are a folder that nobody made."""
    siblings: dict[str, list[str]] = defaultdict(list)
    for name, module in project.items():
        parent, _, own = name.rpartition(".")
        if parent and not (module.is_package and parent == PACKAGE):
            siblings[parent].append(own)
    for parent, names in siblings.items():
        prefixes = Counter(name.partition("_")[0] for name in names if "_" in name)
        for prefix, count in sorted(prefixes.items()):
            if count >= 3:
                yield f"{parent} has {count} files {prefix}_*: make a folder {prefix}/"
            elif prefix in names:
                yield f"{parent} has {prefix} beside {prefix}_*: make a folder {prefix}/, or merge them"


def small_rooms(project: Project, plug_ins: Collection[str]) -> Iterator[str]:
    """A module that one other imports is a slice of that one, unless it is large or a plug-in."""
    importers: dict[str, set[str]] = defaultdict(set)
    for module in project.values():
        for imported in () if module.is_package else module.imports:  # which only names what is public
            importers[imported].add(module.name)
    for module in project.values():
        if module.lines > CEILING:
            yield f"{module.name} has {module.lines} lines, more than {CEILING}: split it by idea"
        if module.is_package or module.package in plug_ins or module.lines > SHORT:
            continue
        if len(importers[module.name]) == 1:
            one = next(iter(importers[module.name]))
            yield (
                f"{module.name} has {module.lines} lines and only {one} imports it: merge them, or put it "
                "among the plug-ins"
            )


def long_functions(project: Project) -> Iterator[str]:
    """A function is read on one screen, its docstring aside."""
    for module in project.values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) is not None else node.body
                lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
                if lines > LONGEST_FUNCTION:
                    yield f"{module.name}: {node.name} has {lines} lines, more than {LONGEST_FUNCTION}: split it"


def names_with_two_meanings(project: Project) -> Iterator[str]:
    """A public class or type is defined once in the project."""
    places: dict[str, list[str]] = defaultdict(list)
    for module in project.values():
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef) or (isinstance(node, ast.AnnAssign) and _is_alias(node)):
                name = node.name if isinstance(node, ast.ClassDef) else ast.unparse(node.target)
                if not name.startswith("_"):
                    places[name].append(module.name)
    for name, modules in sorted(places.items()):
        if len(modules) > 1:
            yield f"{name} is defined in {' and in '.join(modules)}: rename all but one"


def _is_alias(node: ast.AnnAssign) -> bool:
    return ast.unparse(node.annotation).endswith("TypeAlias")


def tests_out_of_place(root: Path, elsewhere: Collection[str]) -> Iterator[str]:
    """Tests are found where what they test is found: `tests/video/test_x.py` for something in `video/`.

    Args:
        root: of the project, with a folder `tests`.
        elsewhere: folders of tests of no single folder of the project.
    """
    tests = root / "tests"
    for path in sorted(tests.rglob("test_*.py")):
        place = path.parent.relative_to(tests)
        name = f"tests/{path.relative_to(tests).as_posix()}"
        if place.parts and place.parts[0] not in elsewhere and not (root / place).is_dir():
            yield f"{name} is in a folder that the project does not have: move it to where what it tests is"
        if place.parts and path.stem.startswith(f"test_{place.name}_"):
            yield f"{name} repeats the name of its folder: leave it out"
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef) and len(node.name) > LONGEST_TEST_NAME:
                yield f"{name}: {node.name} has more than {LONGEST_TEST_NAME} characters: shorten it"


def imports_in(text: str) -> Iterator[str]:
    """Names of the project that a program imports: `package.module.name`."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == PACKAGE)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def not_public(project: Project, text: str) -> Iterator[str]:
    """Yield a sentence for each imported name that is neither a module nor in the `__all__` of its module.

    A module is public unless a part of its name starts with an underscore.
    """
    for name in imports_in(text):
        module, _, own = name.rpartition(".")
        is_private = any(part.startswith("_") for part in name.split("."))
        if is_private or not (name in project or (module in project and own in project[module].public_names)):
            yield f"{name} is not public: add it to the __all__ of {module}, or import another name"


def arrows(project: Project, depth: int = 2) -> set[tuple[str, str]]:
    """Imports between rooms at the first `depth` levels."""

    def room(name: str) -> str:
        return ".".join(name.split(".")[: depth + 1])

    pairs = {(room(module.name), room(name)) for module in project.values() for name in module.imports}
    return {(here, there) for here, there in pairs if here != there and PACKAGE not in (here, there)}


def figures(project: Project) -> dict[str, int]:
    """Counts that tell how a house is built."""
    importers = Counter(itertools.chain.from_iterable(module.imports for module in project.values()))
    return {
        "modules": len(project),
        "lines": sum(module.lines for module in project.values()),
        "loose files in vdm_bench": sum(m.package == PACKAGE and not m.is_package for m in project.values()) + 1,
        "arrows": len(arrows(project)),
        "circles": len(list(circles(project))),
        "modules that at most one other imports": sum(
            not module.is_package and ".cli." not in name and importers[name] <= 1
            for name, module in project.items()
        ),
        "public classes with two meanings": len(list(names_with_two_meanings(project))),
    }

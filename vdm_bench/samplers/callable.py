"""A user's Python function, class or object as a sampler: `module:object`."""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from vdm_bench.errors import InputError, VdmBenchError
from vdm_bench.runtime.choose import check_known
from vdm_bench.runtime.plugins import load_plugin
from vdm_bench.samplers.base import Sampler, SampleRequest, file_digest, said
from vdm_bench.samplers.output import format_of


class CallableSampler(Sampler):
    """A function `f(request, **options) -> clips` as a sampler.

    Args:
        function: returns the clips, which the harness checks.
        options: its keyword arguments.
        origin: function or class that the name and the code digest are taken from; `function` if None.
    """

    def __init__(
        self, function: Callable[..., Any], options: Mapping[str, str], origin: object | None = None
    ) -> None:
        self._function, self._options = function, dict(options)
        self._origin = function if origin is None else origin
        self.clip_format = format_of(self._origin)

    @property
    def spec(self) -> str:
        """Name of the function, or of the object's class."""
        return str(getattr(self._origin, "__name__", type(self._origin).__name__))

    @property
    def code_module(self) -> str:
        """Name of the module that defines the function, or the object's class."""
        return str(getattr(self._origin, "__module__", ""))

    def sample(self, request: SampleRequest) -> Any:
        """Call the function."""
        return self._function(request, **self._options)


class _Folder:
    """The folder that callables are imported from, one at a time.

    Many repositories have a `sampler.py` or a package `metrics`, so the modules of one folder are forgotten when
    the next is entered. An earlier callable keeps the modules it has imported, but imports from the new folder.
    """

    def __init__(self) -> None:
        self._path: Path | None = None
        self._inserted = False
        self._before: set[str] = set()

    def enter(self, path: Path) -> None:
        """Search this folder first, and forget the modules imported from the previous one."""
        if path == self._path and str(path) in sys.path:
            return
        if self._path is not None:
            theirs = {name for name in sys.modules.keys() - self._before if self._is_in(self._path, name)}
            for name in [name for name in sys.modules if name.partition(".")[0] in theirs]:
                del sys.modules[name]
            if self._inserted and str(self._path) in sys.path:
                sys.path.remove(str(self._path))
            importlib.invalidate_caches()
        # First, as for `python -m`: the module may share its name with an installed package.
        self._inserted = str(path) not in sys.path
        if self._inserted:
            sys.path.insert(0, str(path))
        self._path, self._before = path, set(sys.modules)

    def _is_in(self, path: Path, name: str) -> bool:
        """Whether a module is located directly in a folder; a namespace package has several locations."""
        spec = getattr(sys.modules[name], "__spec__", None)
        if spec is None or "." in name:
            return False
        places = spec.submodule_search_locations or [spec.origin]
        return any(place is not None and Path(place).parent == path for place in places)


_FOLDER = _Folder()


def module_digest(module: str, spec: str) -> str | None:
    """Return the `Sampler.code_digest` of a sampler without building it; None if its module is not found.

    Args:
        module: that defined the sampler when it was last built; its parent packages are imported, it is not.
        spec: the sampler as the user named it.
    """
    if ":" in spec:
        _FOLDER.enter(Path.cwd())
    loaded = sys.modules.get(module)
    if loaded is not None:
        return file_digest(getattr(loaded, "__file__", None))
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    return file_digest(found.origin) if found is not None and found.has_location else None


def as_sampler(target: object, options: Mapping[str, str], name: str = "") -> Sampler:
    """Return a `Sampler` unchanged; wrap a function, or an object with `sample(request)`.

    Args:
        target: a `Sampler`, an object with `sample(request)`, or a function `f(request, **options)`.
        options: keyword arguments of a function.
        name: of the target, for errors; its type if empty.

    Raises:
        InputError: the target is neither.
    """
    if isinstance(target, Sampler):
        return target
    if isinstance(target, type):
        raise InputError(f"the sampler {target.__name__} is a class; make an object of it, and give that")
    method = getattr(target, "sample", None)
    if callable(method):
        return CallableSampler(method, {}, type(target))
    if callable(target):
        _check_options(name or getattr(target, "__name__", type(target).__name__), target, options, given=1)
        return CallableSampler(target, options)
    shown = name or f"of type {type(target).__name__}"
    raise InputError(f"the sampler {shown} is neither a function nor an object with sample(request)")


def load_callable(spec: str, options: dict[str, str]) -> Sampler:
    """Import `module:object` and turn it into a sampler.

    The current folder is searched first, as by `python -m`. A class is instantiated with the options as keyword
    arguments (strings) and must have `sample(request)`; a function is called with the request and the options.

    Callables can be loaded one after another from folders whose modules have the same names: each gets its own.

    Raises:
        InputError: the module or the object does not exist, or does not accept these options.
    """
    module_name, _, object_name = spec.partition(":")
    _FOLDER.enter(Path.cwd())
    try:
        target = importlib.import_module(module_name)
        for part in object_name.split("."):
            target = getattr(target, part)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"the sampler {spec} cannot be imported ({said(error)}); run from the folder that holds the module, "
            "or install it"
        ) from error
    except (Exception, SystemExit) as error:  # a script that exits must not set the exit code of the harness
        raise InputError(f"the sampler {spec} fails when it is imported ({_named(error)})") from error
    return _build(spec, target, options)


def load_installed(name: str, entry: EntryPoint, options: Mapping[str, str]) -> Sampler:
    """Turn the entry point of an installed package into a sampler; see `load_callable`.

    Raises:
        InputError: it cannot be imported, or does not accept these options.
    """
    return _build(name, load_plugin(entry, "sampler"), options)


def _build(spec: str, target: object, options: Mapping[str, str]) -> Sampler:
    if not isinstance(target, type):
        return as_sampler(target, options, spec)
    _check_options(spec, target, options, given=0)
    try:
        made = target(**options)
    except TypeError as error:
        raise InputError(f"the sampler {spec} cannot be made with these options ({said(error)})") from error
    except VdmBenchError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(f"the sampler {spec} fails when it is made ({_named(error)})") from error
    return as_sampler(made, {}, spec)


def _check_options(name: str, function: Callable[..., Any], options: Mapping[str, str], given: int) -> None:
    """Refuse unknown and missing options of a function or class.

    Args:
        name: of the sampler, for errors.
        function: that gets the options as keyword arguments.
        options: of the user.
        given: number of positional arguments that it gets before them.

    Raises:
        InputError: an option is unknown (the message suggests the closest name) or missing.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return  # written in C
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    keywords = [*positional[given:], *(p for p in parameters if p.kind == p.KEYWORD_ONLY)]
    names = [parameter.name for parameter in keywords]
    if not any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters):
        for option in options:
            hint = f"{name} takes {', '.join(names)}" if names else f"{name} has no options: leave it out"
            check_known(option, names, f"option of {name}:", hint)
    missing = [p.name for p in keywords if p.default is p.empty and p.name not in options]
    if missing:
        raise InputError(
            f"the sampler {name} needs the option{'s' * (len(missing) > 1)} {', '.join(missing)}; give "
            f"--option {missing[0]}=VALUE"
        )


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {said(error)}; --debug shows where"

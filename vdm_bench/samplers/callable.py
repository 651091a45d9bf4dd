"""A Python object as a sampler: `module:object`, a function or a class of the user's."""

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vdm_bench.errors import InputError, VdmBenchError
from vdm_bench.samplers.base import Sampler, SampleRequest, said


class CallableSampler:
    """A function `f(request, **options) -> clips` as a sampler."""

    def __init__(self, function: Callable[..., Any], options: dict[str, str]) -> None:
        self._function, self._options = function, options

    def sample(self, request: SampleRequest) -> Any:
        """Call the function; the harness checks what it returns."""
        return self._function(request, **self._options)


class _Folder:
    """The folder that callables are imported from: one at a time, as repositories use the same names.

    Many have a `sampler.py` or a package `metrics`. What a callable has imported stays its own when the next
    folder is entered; what it imports only then is looked for there.
    """

    def __init__(self) -> None:
        self._path: Path | None = None
        self._inserted = False
        self._before: set[str] = set()

    def enter(self, path: Path) -> None:
        """Have imports look here first, and forget the modules that came from the folder before."""
        if path == self._path and str(path) in sys.path:
            return
        if self._path is not None:
            theirs = {name for name in sys.modules.keys() - self._before if self._is_in(self._path, name)}
            for name in [name for name in sys.modules if name.partition(".")[0] in theirs]:
                del sys.modules[name]
            if self._inserted and str(self._path) in sys.path:
                sys.path.remove(str(self._path))
            importlib.invalidate_caches()
        # First, as for `python -m`: the module may have the name of an installed package.
        self._inserted = str(path) not in sys.path
        if self._inserted:
            sys.path.insert(0, str(path))
        self._path, self._before = path, set(sys.modules)

    def _is_in(self, path: Path, name: str) -> bool:
        """Whether a module stands directly in a folder; a package without `__init__.py` has several places."""
        spec = getattr(sys.modules[name], "__spec__", None)
        if spec is None or "." in name:
            return False
        places = spec.submodule_search_locations or [spec.origin]
        return any(place is not None and Path(place).parent == path for place in places)


_FOLDER = _Folder()


# The package's own samplers are not known by their files, which may change where the clips do not, but by these
# digests, which stand in the plans of runs. Whoever changes the clips of one changes its digest.
_OF_THE_PACKAGE = {
    "vdm_bench.samplers.baselines": "5fc22a57b530",
    "vdm_bench.samplers.command": "2c535dee0b33",
    "vdm_bench.samplers.diffusers": "40e2f3f14f69",
    "vdm_bench.samplers.reference": "0e2ba751efd4",
}


def code_digest(sampler: Sampler) -> str | None:
    """Return 12 digits over the file that defines a sampler; None where there is no such file.

    A run that was interrupted must not go on with other code. What the file imports or loads is not seen.
    """
    name = code_module(sampler)
    return _OF_THE_PACKAGE.get(name) or _digest(getattr(sys.modules.get(name), "__file__", None))


def code_module(sampler: Sampler) -> str:
    """Name the module that defines a sampler; empty where it does not tell."""
    origin = sampler._function if isinstance(sampler, CallableSampler) else type(sampler)
    return str(getattr(origin, "__module__", ""))


def module_digest(module: str, spec: str) -> str | None:
    """Return the `code_digest` of a sampler that has not been made; None where its module is not found.

    Args:
        module: that defined it when it was last made; it is not imported, though the packages it lies in are.
        spec: the sampler as the user gave it.
    """
    if module in _OF_THE_PACKAGE:
        return _OF_THE_PACKAGE[module]
    if ":" in spec:
        _FOLDER.enter(Path.cwd())
    loaded = sys.modules.get(module)
    if loaded is not None:
        return _digest(getattr(loaded, "__file__", None))
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    return _digest(found.origin) if found is not None and found.has_location else None


def _digest(file: str | None) -> str | None:
    return None if file is None else hashlib.sha256(Path(file).read_bytes()).hexdigest()[:12]


def load_callable(spec: str, options: dict[str, str]) -> Sampler:
    """Import `module:object` and make a sampler of it.

    The current folder is searched first, as `python -m` does. A class is made with the options as keyword
    arguments (texts) and must have `sample(request)`; a function is called with the request and the options.

    One after the other, callables may come from folders whose modules have the same names: each gets its own.

    Raises:
        InputError: the module or the object is not there, or cannot be made with these options.
    """
    module_name, _, object_name = spec.partition(":")
    _FOLDER.enter(Path.cwd())
    try:
        target = importlib.import_module(module_name)
        for part in object_name.split("."):
            target = getattr(target, part)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"--sampler {spec} cannot be imported ({said(error)}); run from the folder that holds the module, "
            "or install it"
        ) from error
    except (Exception, SystemExit) as error:  # a script that exits would end the harness with its own code
        raise InputError(f"--sampler {spec} fails when it is imported ({_named(error)})") from error
    if isinstance(target, type):
        try:
            target = target(**options)
        except TypeError as error:
            raise InputError(f"--sampler {spec} cannot be made with these options ({said(error)})") from error
        except VdmBenchError:
            raise
        except (Exception, SystemExit) as error:
            raise InputError(f"--sampler {spec} fails when it is made ({_named(error)})") from error
        options = {}
    if isinstance(target, Sampler):
        return target
    if callable(target):
        return CallableSampler(target, options)
    raise InputError(f"--sampler {spec} is neither a function nor an object with sample(request)")


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {said(error)}; --debug shows where"

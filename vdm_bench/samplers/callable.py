"""A Python object as a sampler: `module:object`, a function or a class of the user's."""

import hashlib
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vdm_bench.errors import InputError
from vdm_bench.samplers.base import Sampler, SampleRequest


class CallableSampler:
    """A function `f(request, **options) -> clips` as a sampler."""

    def __init__(self, function: Callable[..., Any], options: dict[str, str]) -> None:
        self._function, self._options = function, options

    def sample(self, request: SampleRequest) -> Any:
        """Call the function; the harness checks what it returns."""
        return self._function(request, **self._options)


def code_digest(sampler: Sampler) -> str | None:
    """Give 12 digits over the file that defines a sampler; None where there is no such file.

    A run that was interrupted must not go on with other code. What the file imports or loads is not seen.
    """
    origin = sampler._function if isinstance(sampler, CallableSampler) else type(sampler)
    module = sys.modules.get(getattr(origin, "__module__", ""))
    file = getattr(module, "__file__", None)
    return None if file is None else hashlib.sha256(Path(file).read_bytes()).hexdigest()[:12]


def load_callable(spec: str, options: dict[str, str]) -> Sampler:
    """Import `module:object` and make a sampler of it.

    The current folder is searched first, as `python -m` does. A class is made with the options as keyword
    arguments (texts) and must have `sample(request)`; a function is called with the request and the options.

    Raises:
        InputError: the module or the object is not there, or cannot be made with these options.
    """
    module_name, _, object_name = spec.partition(":")
    # First, as for `python -m`: the module may have the name of an installed package.
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        target = importlib.import_module(module_name)
        for part in object_name.split("."):
            target = getattr(target, part)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"--sampler {spec} cannot be imported ({error}); run from the folder that holds the module, "
            "or install it"
        ) from error
    if isinstance(target, type):
        try:
            target = target(**options)
        except TypeError as error:
            raise InputError(f"--sampler {spec} cannot be made with these options ({error})") from error
        options = {}
    if isinstance(target, Sampler):
        return target
    if callable(target):
        return CallableSampler(target, options)
    raise InputError(f"--sampler {spec} is neither a function nor an object with sample(request)")

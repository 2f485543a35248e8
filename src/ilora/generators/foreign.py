"""Generators from outside the package: ``MODULE:CLASS``, a module of the user's own that is imported by that name."""

import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FORM = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def is_code(name: str) -> bool:
    """Whether a generator of this name is a module that would be imported, so that its code would run."""
    return FORM.fullmatch(name) is not None and not Path(name).exists()


def construct(name: str, **given: Any) -> Any:
    """What the class or function ``MODULE:CLASS`` makes.

    The module may be installed or lie in the working directory; an installed one of that name comes first.

    Args:
        name: ``MODULE:CLASS``, modules in packages with dots between.
        given: keywords of the call: ``device``, ``dtype`` and ``readout`` (``ilora.generators.load``).

    Raises:
        ValueError: no such module, nothing of that name in it, or it does not take these keywords.
    """
    place, _, wanted = name.partition(":")
    with _here():
        module = _imported(place)
        made = getattr(module, wanted, None)
        if not callable(made):
            public = [
                word for word, value in vars(module).items() if inspect.isclass(value) and value.__module__ == place
            ]
            raise ValueError(
                f"{name} must name a class or function in {module.__file__}, got {made!r}; "
                f"classes there: {', '.join(public) or 'none'}"
            )
        try:
            inspect.signature(made).bind(**given)
        except TypeError as error:
            raise ValueError(
                f"{name} must take the keywords {', '.join(given)}, got {wanted}{inspect.signature(made)} ({error}); "
                "see docs/add-a-generator.md"
            ) from error
        return made(**given)


@contextmanager
def _here() -> Iterator[None]:
    """Within it, modules of the working directory can be imported, after all installed ones."""
    path = str(Path.cwd())
    sys.path.append(path)
    try:
        yield
    finally:
        sys.path.remove(path)


def _imported(place: str) -> Any:
    """The module; an error that its own imports raise passes through."""
    importlib.invalidate_caches()
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{place}.".startswith(f"{error.name}."):
            raise
        raise ValueError(
            f"the module {place!r} must be installed or lie in the working directory, got no {error.name!r} in "
            f"{Path.cwd()}; go to the folder that holds it, or install it"
        ) from error

"""What does an image generator know about the scene it paints?

The public names, each imported on first use, so that ``import ilora`` stays light. A module is named like its verb:
``ilora.fit.fit(ilora.preset("default", intrinsic="normal"), "RUN")``.
"""

import importlib
from typing import Any

_HOME = {
    "AdapterConfig": "ilora.config",
    "FitConfig": "ilora.config",
    "Readout": "ilora.config",
    "Example": "ilora.records",
    "Record": "ilora.records",
    "preset": "ilora.presets",
}
_MODULES = (
    "adapters",
    "comparison",
    "data",
    "evaluate",
    "fit",
    "generators",
    "images",
    "intrinsics",
    "label",
    "ops",
    "predict",
    "protocols",
    "zoo",
)

__all__ = [*_HOME, *_MODULES, "__version__"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for (PEP 562).

    Raises:
        AttributeError: the package has no such name.
    """
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"ilora.{name}")
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("ilora")
    raise AttributeError(f"module 'ilora' has no attribute {name!r}; public names: {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)

"""Rendered rooms with exact intrinsic maps: `sample_scene(seed)`, `render(scene)`, `write(out, count)`."""

from ilora.data.scenes.sampling import sample_scene
from ilora.data.scenes.scene import LABELLED, PICTURES, SPLITS, TEST, VALIDATION, Scene, split_seeds
from ilora.data.scenes.writer import Written, write

__all__ = [
    "LABELLED",
    "PICTURES",
    "SPLITS",
    "TEST",
    "VALIDATION",
    "Scene",
    "Written",
    "render",
    "sample_scene",
    "split_seeds",
    "write",
]


def __getattr__(name: str):
    if name == "render":  # loads Mitsuba
        from ilora.data.scenes.rendering import render

        return render
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

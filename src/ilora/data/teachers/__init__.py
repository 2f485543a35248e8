"""Teachers: off-the-shelf predictors that label pictures. One protocol (base.py), one file a family, found by name."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ilora.data.teachers.base import Teacher

KNOWN = {  # name: hub id
    "depth-anything-v2-small": "depth-anything/Depth-Anything-V2-Small-hf",
    "depth-anything-v2-base": "depth-anything/Depth-Anything-V2-Base-hf",
    "depth-anything-v2-large": "depth-anything/Depth-Anything-V2-Large-hf",
    "depth-anything-v2-metric-indoor-small": "depth-anything/Depth-Anything-V2-Metric-Indoor-Small-hf",
    "depth-anything-v2-metric-indoor-large": "depth-anything/Depth-Anything-V2-Metric-Indoor-Large-hf",
    "depth-anything-v2-metric-outdoor-small": "depth-anything/Depth-Anything-V2-Metric-Outdoor-Small-hf",
    "zoedepth": "Intel/zoedepth-nyu-kitti",
    "dpt-large": "Intel/dpt-large",
    "dpt-hybrid": "Intel/dpt-hybrid-midas",
    "marigold-normals": "prs-eth/marigold-normals-v1-1",
    "marigold-lighting": "prs-eth/marigold-iid-lighting-v1-1",
}
FAMILIES = {  # class named in a folder's JSON: module that knows it
    "DepthAnythingForDepthEstimation": "depth_estimation",
    "DPTForDepthEstimation": "depth_estimation",
    "ZoeDepthForDepthEstimation": "depth_estimation",
    "MarigoldNormalsPipeline": "marigold",
    "MarigoldIntrinsicsPipeline": "marigold",
}
DERIVED = "+normals"  # ending of a depth teacher's name: normals from its depth, too


def teacher(name: str, *, device: str = "cpu", fov: float | None = None) -> "Teacher":
    """A teacher ready to label.

    Args:
        name: of ``KNOWN``, a folder of weights, a hub id, or ``MODULE:CLASS`` of one's own, which is made with the
            device as its only argument. With ``+normals`` behind the name of one that gives metric depth, the normals
            that follow from it are labelled, too.
        device: where it computes.
        fov: field of view along the longer side of every picture [deg]; for ``+normals`` only.

    Raises:
        FileNotFoundError: nothing of that name, here or on the hub; the message gives the layout that would do.
        ValueError: a checkpoint of an unknown class, a class without the protocol, or normals that cannot be derived.
        ImportError: the family's library, or the module, is missing.
    """
    if name.endswith(DERIVED):
        from ilora.data.teachers.derived import WithNormals

        return WithNormals(teacher(name.removesuffix(DERIVED), device=device), fov)
    module, colon, attribute = name.partition(":")
    if colon and attribute.isidentifier():
        return _own(module, attribute, device)
    from ilora.data.teachers import checkpoints

    folder = checkpoints.find(name, known=KNOWN)
    kind = checkpoints.kind(folder)
    if kind not in FAMILIES:
        raise ValueError(f"{folder} must hold one of {', '.join(FAMILIES)}, got {kind}; write a teacher: MODULE:CLASS")
    try:
        import diffusers  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise ImportError("this teacher needs diffusers and transformers: pip install 'ilora[diffusion]'") from error
    return importlib.import_module(f"ilora.data.teachers.{FAMILIES[kind]}").load(name, folder, device)


def _own(module: str, attribute: str, device: str) -> "Teacher":
    """A teacher of the user's: the class ``attribute`` of a module that Python finds."""
    from ilora.data.teachers.base import Teacher

    try:
        made = getattr(importlib.import_module(module), attribute, None)
    except ModuleNotFoundError as error:
        raise ImportError(f"no module {error.name!r}; put its folder on PYTHONPATH") from error
    if made is None:
        raise ValueError(f"module {module} must have the class {attribute}, got none; check the name")
    own = made(device)
    if not isinstance(own, Teacher):
        missing = [name for name in ("name", "fingerprint", "declares", "story", "label") if not hasattr(own, name)]
        raise ValueError(f"{module}:{attribute} must be a teacher, got one without {', '.join(missing)}; add it")
    return own

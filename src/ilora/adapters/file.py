"""An adapter with its story in one safetensors file: what it changes, what it paints, what it was taught from."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ilora import tensors
from ilora.config import AdapterConfig, Configuration, Readout
from ilora.generators.base import Generator
from ilora.generators.checkpoints import picture_hash

FILE = "adapter.safetensors"  # its name in a run folder
KEY = "ilora"  # of the header entry


@dataclass(frozen=True, kw_only=True)
class About(Configuration):
    """The header of an adapter file: all that is needed to use it, and to make it again."""

    generator: str  # embedded name, folder, file or hub id
    fingerprint: str  # of the generator's weights and configurations
    intrinsic: str | list[str]  # that it paints; a list if it paints several, each asked for in its own words
    units: str | dict[str, str]  # of the map: units, axes and colour space, in words; of several by intrinsic
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    readout: Readout = field(default_factory=Readout)
    picture: str | None = None  # hash of the layer that its ``picture_weights`` name; None: it uses none
    random_weights: int | None = None  # seed that the network was drawn from before the fit; None: its own weights
    fit: dict[str, Any] = field(default_factory=dict)  # FitConfig.write()
    data: dict[str, Any] = field(default_factory=dict)  # name, fingerprint, labels
    scores: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def intrinsics(self) -> list[str]:
        """Names of what it paints, one or several."""
        return [self.intrinsic] if isinstance(self.intrinsic, str) else self.intrinsic


def write(path: Path, weights: dict[str, Tensor], about: About) -> None:
    """Write the file in one step: it is there whole, or not at all.

    Args:
        weights: ``lora.state(network)``; float32, or the network's own type for the controls.
    """
    tensors.write(path, weights, header(about))


def header(about: About) -> dict[str, str]:
    """The entry that a safetensors header carries."""
    return {KEY: json.dumps(about.write(), sort_keys=True)}


def read(path: Path) -> tuple[dict[str, Tensor], About]:
    """Weights on the CPU and header of an adapter file, or of the adapter in a run folder.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: not an adapter file of ilora, or one from a newer version with unknown header entries.
    """
    path = path / FILE if path.is_dir() else path
    if not path.exists():
        raise FileNotFoundError(f"no adapter at {path}; expected a run folder with {FILE}, or such a file")
    weights, entries = tensors.read(path)
    if KEY not in entries:
        raise ValueError(
            f"{path} holds {len(weights)} tensors but does not say what they are for; "
            "adapters of other tools are read with ilora.adapters.formats.read"
        )
    return weights, About.read(json.loads(entries[KEY]))


def match(about: About, generator: Generator, *, force: bool = False) -> None:
    """Check that an adapter was made for these weights.

    Args:
        force: use it all the same; a change of the base usually makes the maps worse, not wrong in an obvious way.

    Raises:
        ValueError: the generator's fingerprint is another one, or there are other ``picture_weights`` under the name.
    """
    if force:
        return
    if about.fingerprint != generator.fingerprint:
        raise ValueError(
            f"the adapter was made for {about.generator!r} with weights {about.fingerprint}, got {generator.name!r} "
            f"with weights {generator.fingerprint}; load that generator, fit again on this one, or force it"
        )
    if (picture := picture_hash(about.readout)) != about.picture:
        raise ValueError(
            f"the adapter was made with the first layer {about.picture} of {about.readout.picture_weights}, got "
            f"{picture} there; bring that file back, fit again with this one, or force it"
        )

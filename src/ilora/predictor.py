"""One generator in memory, any number of adapters: pictures in, maps in their units out."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ilora import checks, tensors
from ilora.adapters import controls, file, formats, lora, probes
from ilora.adapters.file import About
from ilora.config import AdapterConfig, Readout
from ilora.data.cache import content_hash
from ilora.generators import load
from ilora.generators.base import Generator, lost
from ilora.generators.foreign import is_code
from ilora.intrinsics import NAMES, intrinsic
from ilora.intrinsics.base import Intrinsic
from ilora.ops import resample
from ilora.records import Code, Image, Map
from ilora.run import Run
from ilora.team import default_device


@dataclass(frozen=True)
class Source:
    """An adapter on the disk.

    Attributes:
        path: the file, or a folder that another tool wrote and that holds no safetensors file.
        intrinsic: what it paints.
        about: its header; None for files of other tools, which have none.
    """

    path: Path
    intrinsic: str
    about: About | None


def find(adapters: Sequence[str | Path], *, intrinsics: Sequence[str] = NAMES) -> list[Source]:
    """The adapters behind paths that paint the wanted intrinsics, in the order of ``intrinsics``.

    Args:
        adapters: run folders, adapter files, exported files or folders, or folders of run folders.
        intrinsics: which ones; adapters for others are passed over. For a file that does not say what it paints, this
            must be the one thing that it does paint.

    Raises:
        FileNotFoundError: no adapter at a path, a fit that is not finished, or none for any wanted intrinsic.
        ValueError: an unknown intrinsic, two adapters for one, or a file that does not say what it paints.
    """
    wanted = [intrinsic(name).name for name in intrinsics]
    found: dict[str, Source] = {}
    for path in [inner for given in adapters for inner in _files(Path(given).expanduser())]:
        header = tensors.read(path)[1].get(file.KEY) if path.is_file() else None
        about = None if header is None else About.read(json.loads(header))
        if about is None and len(wanted) != 1:
            raise ValueError(f"{path} does not say what it paints, got {len(wanted)} intrinsics for it; name its one")
        for name in wanted[:1] if about is None else about.intrinsics:
            if name in found:
                raise ValueError(f"expected one adapter for {name}, got {found[name].path} and {path}; leave one out")
            found[name] = Source(path, name, about)
    if not found.keys() & set(wanted):
        raise FileNotFoundError(
            f"expected an adapter for {' or '.join(wanted)}, got {', '.join(found) or 'none'} in "
            f"{', '.join(map(str, adapters))}; fit one with: ilora fit --intrinsic {wanted[0]}"
        )
    return [found[name] for name in wanted if name in found]


def _files(path: Path) -> list[Path]:
    """The adapter files of a run folder, a folder of run folders, or an exported folder; else the path itself."""
    for pattern in (file.FILE, f"*/{file.FILE}"):
        if found := sorted(path.glob(pattern)):
            return found
    for place in (path, *sorted(path.glob("*/"))):
        if Run(place).config.is_file() and Run(place).data.is_file():
            raise FileNotFoundError(
                f"{place} must hold {file.FILE}, got a fit that is not finished; go on with it: "
                f"ilora fit --resume --out {place}"
            )
    if found := sorted(path.glob("*.safetensors")):
        return found
    if not path.exists():
        raise FileNotFoundError(f"no adapter at {path}; expected a run folder, an adapter file or an exported one")
    return [path]


@dataclass(frozen=True)
class Estimate:
    """What an adapter makes of pictures.

    Attributes:
        map: in the intrinsic's units; the mean of an ensemble.
        uncertainty: how far the ensemble's samples are apart, in the unit that ``Intrinsic.uncertainty`` names; None
            for a single sample.
    """

    map: Map
    uncertainty: Float[Tensor, "b 1 h w"] | None = None


@dataclass(frozen=True)
class Skill:
    """An adapter as a generator wears it.

    Attributes:
        intrinsic: what it paints.
        readout: how the network's output is read.
        digest: content hash of the adapter's weights, 16 hexadecimal digits.
        weights: the network's parameters and buffers that differ from the base, each with its value under the adapter.
        probe: what paints instead of the generator, where the adapter is a linear probe of its activations.
    """

    intrinsic: Intrinsic
    readout: Readout
    digest: str
    weights: list[tuple[Tensor, Tensor]]
    probe: probes.Probed | None = None

    @property
    def samples(self) -> int:
        """Paintings that a map is made of."""
        return self.readout.sampling.ensemble if self.readout.draws else 1


class Predictor:
    """Maps of pictures. A picture is encoded once, then painted by each adapter in turn.

    Adapters are merged when they are loaded and kept as finished weights: changing from one to the next exchanges
    pointers, costs no arithmetic, and gives the base's own bits back. What differs from the base is held once an
    adapter, everything else once in all. Not for several threads at once: there is one network.

    Attributes:
        generator: with its own weights, except while ``paint`` runs.
        sources: where each adapter came from, by the name of its intrinsic.
        names: of the intrinsics, in order.
        mirror: average with the prediction for the mirrored picture, at twice the time.
        residual: of the pictures that ``paint`` painted last: how far their codes are from them, see
            ``ilora.generators.base.Inverting``; None for generators whose codes hold the whole picture.
    """

    def __init__(
        self,
        adapters: str | Path | Sequence[str | Path],
        *,
        generator: str | Generator | None = None,
        intrinsics: Sequence[str] = NAMES,
        device: str | torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        mirror: bool = False,
    ) -> None:
        """Load a generator and the adapters for it.

        Args:
            adapters: what ``find`` takes, or one of it.
            generator: name or path of the base, or one that is loaded already; None: what the first header names,
                unless that is ``MODULE:CLASS``, which is imported only for who names it here.
            intrinsics: which ones; see ``find``.
            device: such as ``cpu`` or ``cuda:1``; None: the accelerator of this machine, or the CPU.
            dtype: of the network, for a generator that is loaded here; maps are float32.
            mirror: see the class.

        Raises:
            FileNotFoundError: no adapter or no generator there.
            ValueError: adapters of another generator, or what ``find`` refuses.
        """
        paths = [adapters] if isinstance(adapters, (str, Path)) else list(adapters)
        sources = find(paths, intrinsics=intrinsics)
        base = generator or next((source.about.generator for source in sources if source.about), None)
        if base is None:
            raise ValueError(f"{sources[0].path} does not say which generator it is for, got none; name one")
        if generator is None and is_code(base):
            raise ValueError(
                f"{sources[0].path} asks for the generator {base}, whose code would run; "
                f"a file may not decide that, so name it yourself: --generator {base}"
            )
        loaded = load(base, device=device or default_device(), dtype=dtype) if isinstance(base, str) else base
        self.generator = loaded
        self.sources = {source.intrinsic: source for source in sources}
        self.names = tuple(self.sources)
        self.mirror = mirror
        self.residual: Float[Tensor, "b 1 h w"] | None = None
        files = {source.path: source for source in sources}  # each once, however much it paints
        worn = {path: wear(self.generator, source) for path, source in files.items()}
        self._skills = {name: replace(worn[x.path], intrinsic=intrinsic(name)) for name, x in self.sources.items()}

    def __call__(self, image: Float[Tensor, "3 h w"]) -> dict[str, Float[Tensor, "c h w"]]:
        """Maps of one picture by name of intrinsic, at its own size, in each intrinsic's units.

        Args:
            image: sRGB in [-1, 1], any size and aspect; ``ilora.images.read`` returns this form.

        Raises:
            ValueError: another form.
        """
        return {name: map[0] for name, map in self.maps(checks.image(image)[None]).items()}

    def maps(self, images: Image, *, adapted: bool = True) -> dict[str, Map]:
        """Maps of pictures of one size, at that size, by name of intrinsic.

        Args:
            adapted: see ``paint``.
        """
        painted = self.paint(torch.stack([self.working(image) for image in images]), adapted=adapted)
        return {name: self.sized(name, map, *images.shape[-2:]) for name, map in painted.items()}

    def working(self, image: Float[Tensor, "3 h w"]) -> Float[Tensor, "3 rows columns"]:
        """The picture at the nearest size [px] that the generator accepts."""
        height, width = self.generator.size(*image.shape[-2:])
        return resample.resize(image[None], height, width)[0].clamp(-1, 1)

    def sized(self, name: str, map: Map, height: int, width: int) -> Float[Tensor, "b c {height} {width}"]:
        """Maps of the intrinsic ``name`` at another size [px], in its units."""
        return self.intrinsic(name).resize(map, height, width)

    def sampling(self, **changes: Any) -> None:
        """Change how adapters that paint in several passes are sampled from now on; the others stay as they are.

        Args:
            changes: fields of ``ilora.config.Sampling``, such as ``ensemble=8`` or ``passes=10``.

        Raises:
            ValueError: an unknown field or a value outside its range, or every adapter paints in a single pass, which
                draws nothing.
        """
        if changes and not any(skill.readout.draws for skill in self._skills.values()):
            raise ValueError(
                f"{', '.join(changes)} must be for an adapter that paints in several passes, got those for "
                f"{', '.join(self.names)}, which paint in one and draw nothing; fit one with --preset augmented"
            )
        for name, skill in self._skills.items():
            sampling = skill.readout.sampling.replace(**changes) if skill.readout.draws else skill.readout.sampling
            self._skills[name] = replace(skill, readout=replace(skill.readout, sampling=sampling))

    def samples(self, name: str) -> int:
        """Paintings that an adapter's map is made of."""
        return self._skills[name].samples

    def readout(self, name: str) -> Readout:
        """How an adapter is read, sampling included."""
        return self._skills[name].readout

    def intrinsic(self, name: str) -> Intrinsic:
        """The intrinsic of an adapter."""
        return self._skills[name].intrinsic

    def digest(self, name: str) -> str:
        """Content hash of an adapter's weights, 16 hexadecimal digits."""
        return self._skills[name].digest

    def paint(self, images: Image, *, adapted: bool = True) -> dict[str, Map]:
        """The maps of ``estimate``."""
        return {name: found.map for name, found in self.estimate(images, adapted=adapted).items()}

    @torch.no_grad()
    def estimate(self, images: Image, *, adapted: bool = True) -> dict[str, Estimate]:
        """Maps by name of intrinsic, at the pictures' own size, which must be one that ``working`` gives.

        Args:
            adapted: False paints with the generator as it was, asked in the intrinsic's words: a baseline.
        """
        code = self.generator.encode(images)
        self.residual = lost(self.generator, images.to(code.device), code)
        mirrored = self.generator.encode(images.flip(-1)) if self.mirror else None
        result = {}
        for name, own in self._skills.items():
            skill = own if adapted else Skill(own.intrinsic, own.readout, "", [])
            with self._worn(skill):
                samples = [self._sample(skill, number, code, mirrored) for number in range(skill.samples)]
            if len(samples) == 1:
                result[name] = Estimate(samples[0])
            else:
                result[name] = Estimate(*skill.intrinsic.ensemble(torch.stack(samples).cpu()))  # float64 inside: no MPS
        return result

    def _sample(self, skill: Skill, number: int, code: Code, mirrored: Code | None) -> Map:
        """One painting of the pictures, by the noise of that number where there is any."""
        sampling, kind, painter = skill.readout.sampling, skill.intrinsic, skill.probe or self.generator
        self.generator.readout = replace(skill.readout, sampling=replace(sampling, seed=sampling.seed + number))
        map = kind.from_image(painter.forward(code))
        if mirrored is None:
            return map
        other = kind.flip(kind.from_image(painter.forward(mirrored)))
        return kind.resize((map + other) / 2, *map.shape[-2:])  # makes normals unit vectors again

    @contextmanager
    def _worn(self, skill: Skill) -> Iterator[None]:
        """The generator with an adapter's weights, prompt and readout; its own weights come back afterwards."""
        kept = [(own, own.data) for own, _ in skill.weights]
        self.generator.ask(skill.intrinsic.prompt)
        try:
            for own, value in skill.weights:
                own.data = value
            with _reading(self.generator, skill.readout):
                yield
        finally:
            for own, value in kept:
                own.data = value


@contextmanager
def _reading(generator: Generator, readout: Readout) -> Iterator[None]:
    """Within it the generator has another readout, and with it the network that this is for."""
    kept, generator.readout = generator.readout, readout
    try:
        yield
    finally:
        generator.readout = kept


def wear(generator: Generator, source: Source) -> Skill:
    """Merge an adapter into copies of the weights that it changes; the generator itself is left as it was.

    Raises:
        ValueError: the adapter was made for another generator, or does not fit this one's layers.
    """
    about = source.about
    probing = about is not None and about.adapter.method in probes.METHODS
    with _reading(generator, about.readout if about else Readout()):
        probe = probes.Probed(generator, about.adapter.targets) if probing else None
        if about is not None:
            file.match(about, probe or generator)
        return _skill(generator, source, probe)


def _skill(generator: Generator, source: Source, probe: probes.Probed | None) -> Skill:
    """``wear``, under the adapter's own readout."""
    network, about = generator.network, source.about
    weights, config = _read(source, network)
    digest = content_hash(weights)[:16]
    if probe is not None:
        probe.network.load_state_dict(weights)
        return Skill(intrinsic(source.intrinsic), about.readout, digest, [], probe)
    own = dict(network.named_parameters()) | dict(network.named_buffers())
    if config.method in controls.METHODS:  # the file holds the whole network
        changed = {name: value.to(own[name]) for name, value in weights.items()}
    else:
        start = about.random_weights if about is not None else None
        targets = generator.targets.get(config.targets, config.targets)
        changed = merged(network, weights, config=config, targets=targets, start=start)
    pairs = [(own[name], value) for name, value in changed.items()]
    return Skill(intrinsic(source.intrinsic), generator.readout, digest, pairs)


def merged(
    network: nn.Module,
    weights: dict[str, Tensor],
    *,
    config: AdapterConfig,
    targets: str | Sequence[str],
    start: int | None = None,
) -> dict[str, Tensor]:
    """The parameters that a low-rank adapter changes, with their values under it; ``network`` is left as it was.

    Args:
        weights: of the adapter, as ``lora.state`` gives them.
        config, targets: what ``lora.attach`` takes.
        start: seed of the random weights that the adapter was fitted on, all of which then differ; None: the network's
            own.
    """
    own = dict(network.named_parameters())
    kept = {name: parameter.data for name, parameter in own.items()}
    if start is not None:
        for parameter in own.values():
            parameter.data = parameter.data.clone()
        controls.randomise(network, start)
    lora.attach(network, config, targets, start=lora.downs(weights) if config.method in lora.UNEVEN else None)
    try:
        lora.load_state(network, weights)
        lora.merge(network)
        values = {name: parameter.data for name, parameter in own.items()}
    finally:
        lora.detach(network)
    if start is not None:
        for name, parameter in own.items():
            parameter.data = kept[name]
    # Detaching gave each merged layer back its base weight, in other memory than the merged one has.
    return {name: value for name, value in values.items() if value.data_ptr() != own[name].data_ptr()}


def _read(source: Source, network: nn.Module) -> tuple[dict[str, Tensor], AdapterConfig]:
    """Weights of an adapter and the configuration to attach first, whoever wrote the file."""
    layers = dict(network.named_modules())
    if source.about is not None:
        weights, about = file.read(source.path)
        whole = about.adapter.method in controls.METHODS
        if whole or all(name.partition(".lora_")[0] in layers for name in weights):  # exported files have other names
            return weights, about.adapter
    return formats.read(source.path, network)

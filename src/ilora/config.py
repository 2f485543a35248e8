"""Frozen configurations. An unknown key names the nearest known one; a value of the wrong kind is refused."""

import dataclasses
import difflib
import json
import math
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """A frozen dataclass that reads and writes plain dictionaries.

    Raises:
        ValueError: a field holds a value of another type than it declares.
    """

    def __post_init__(self) -> None:
        for name, kind in typing.get_type_hints(type(self)).items():
            value = getattr(self, name)
            if not _is_a(value, kind):
                words = kind.__name__ if isinstance(kind, type) else str(kind)
                raise ValueError(f"{type(self).__name__}.{name} must be {words}, got {value!r}")

    @classmethod
    def read(cls, values: dict[str, Any]) -> Self:
        """Build from a dictionary such as a parsed JSON file.

        Raises:
            ValueError: a key is not a field; the message names the nearest field.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for key in values:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
                raise ValueError(f"{cls.__name__} has no option {key!r}; {hint}")
        kinds = typing.get_type_hints(cls)
        return cls(**{key: _restored(value, kinds[key]) for key, value in values.items()})

    def write(self) -> dict[str, Any]:
        """Plain dictionary that ``read`` takes back."""
        return dataclasses.asdict(self)

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed; unknown names are refused as in ``read``."""
        return self.read({**self.write(), **changes})


def parse(assignments: Sequence[str]) -> dict[str, Any]:
    """Fields from words such as ``lr=3e-4``, ``mirror=false``, ``clip=null``, ``schedule=constant``.

    Raises:
        ValueError: a word has no ``=``.
    """
    values = {}
    for word in assignments:
        name, equals, text = word.partition("=")
        if not equals:
            raise ValueError(f"expected NAME=VALUE, got {word!r}; for example: --set lr=3e-4")
        values[name.strip().replace("-", "_")] = _value(text)
    return values


def unparse(values: dict[str, Any]) -> list[str]:
    """Words that ``parse`` reads these fields from."""
    texts = {
        name: value if isinstance(value, str) and _value(value) == value else json.dumps(value)
        for name, value in values.items()
    }
    return [f"{name}={text}" for name, text in texts.items()]


def _value(text: str) -> Any:
    """What JSON reads; a word where it reads nothing."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _restored(value: Any, kind: Any) -> Any:
    """A nested configuration or a tuple as it was before JSON made it a dictionary or a list."""
    if isinstance(kind, type) and issubclass(kind, Configuration) and isinstance(value, dict):
        return kind.read(value)
    return tuple(value) if typing.get_origin(kind) is tuple and isinstance(value, list) else value


def _is_a(value: object, kind: Any) -> bool:
    """Whether ``value`` is of the annotated type: an int is also a float, a bool is not an int."""
    kinds = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if Any in kinds or isinstance(value, bool):
        return Any in kinds or bool in kinds
    return any(
        isinstance(value, typing.get_origin(one) or one) or (one is float and isinstance(value, int)) for one in kinds
    )


@dataclass(frozen=True, kw_only=True)
class Sampling(Configuration):
    """How a network that paints in several passes goes from noise to a map; ignored where it paints in a single one.

    Raises:
        ValueError: a value is outside its range or not among the known words.
    """

    passes: int = 25  # of the denoiser for one sample
    solver: str = "dpm++"  # dpm++ | ddim
    guidance: float = 1.0  # weight of the text against none; published: 3.0
    image_guidance: float = 1.0  # weight of the picture against none
    guidance_rescale: float = 0.7  # share of the guided output that is brought back to the unguided one's spread
    seed: int = 0  # of the first sample's noise; the next ones count up
    ensemble: int = 1  # samples whose mean is the map

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self)


@dataclass(frozen=True, kw_only=True)
class Readout(Configuration):
    """How a diffusion network's output o and its input latent z become the clean latent: x = image * z + output * o.

    ``image`` and ``output`` left at None follow the network's prediction type at ``timestep``:
    epsilon (z - sigma o) / alpha, velocity alpha z - sigma o, sample o, a flow's velocity z - timestep / 1000 o. With
    ``image`` given, ``output`` left at None is the sign of the clean latent in o: -1 for velocities, else 1.

    That is painting in a single pass. ``paint`` = augmented goes from noise to the map in several, beside the picture
    (``ilora.generators.augmented``); then the fields below it count, and ``timestep``, ``image``, ``output`` do not.
    """

    timestep: int = 999  # of 1000, given to the network
    image: float | None = 0.0  # weight of the input latent
    output: float | None = 1.0  # weight of the network's output
    paint: str = "single"  # single | augmented
    picture_weights: str | None = None  # checkpoint whose first layer takes the picture; None: zeros
    sampling: Sampling = field(default_factory=Sampling)

    @property
    def draws(self) -> bool:
        """Whether painting begins with noise, so that several samples differ."""
        return self.paint != "single"


@dataclass(frozen=True, kw_only=True)
class AdapterConfig(Configuration):
    """Which of the network's weights learn, and in which form."""

    # lora | dora | rslora | eva; controls: full, scratch (all weights, from random ones) | ridge, head (linear probes)
    method: str = "lora"
    rank: int = 8  # of the low-rank update
    alpha: float | None = None  # scale of the update is alpha / rank; None: alpha = rank
    targets: str = "attention"  # a name in Generator.targets, or a regular expression over module names


@dataclass(frozen=True, kw_only=True)
class FitConfig(Configuration):
    """One fit: what learns what, from which labels, how long. Everything that the result depends on.

    Raises:
        ValueError: a value is outside its range or not among the known words.
    """

    generator: str = "rooms-diffusion"
    data: str = "rooms"
    intrinsic: str = "normal"  # or several, comma between, or "all": one adapter for them, each asked in its own words
    labels: int | None = None  # labelled images used; None: all of the training split
    seed: int = 0  # draws the labels, the order, the adapter's start, the random weights
    preset: str = "default"  # where the fields below started from
    random_weights: bool = False  # control: the generator's network is drawn at random first
    reconstruction: float = 0.0  # share of the rows that are the picture itself, see ilora.lessons
    tie: float = 0.0  # weight of picture = albedo * shading, which needs no labels, see ilora.tie

    method: str = "lora"
    rank: int = 8
    alpha: float | None = None
    targets: str = "attention"

    timestep: int = 999
    readout_image: float | None = 0.0
    readout_output: float | None = 1.0
    readout_auto: bool = False  # the three above are fitted to labels first, and then stand here

    paint: str = "single"  # single | augmented: in one pass from the picture, or in several from noise beside it
    picture_weights: str | None = None  # of augmented: instruct-pix2pix, for the picture's layer; None: zeros
    passes: int = 25  # of augmented, as are the next four; see Sampling
    solver: str = "dpm++"
    guidance: float = 1.0
    image_guidance: float = 1.0
    guidance_rescale: float = 0.7

    steps: int = 1000  # updates
    batch: int = 8  # images an update
    accumulate: int = 1  # micro-batches an update
    lr: float | None = None  # of AdamW; None: by the number of weights of the network, see ilora.presets.learning_rate
    lr_ratio: float = 1.0  # learning rate of B over that of A: LoRA+, see ilora.adapters.lora_plus; 1: the same
    schedule: str = "cosine"  # constant | cosine, after warm-up
    warmup: int = 20  # updates of linear warm-up
    weight_decay: float = 0.0
    clip: float | None = 1.0  # largest gradient norm
    ema: float = 0.0  # decay of the averaged adapter; 0: none
    masked: bool = True  # native loss on valid cells only
    mirror: bool = True  # train on mirrored copies too
    jitter: int = 0  # copies of each picture under brighter and coloured light, see ilora.data.jitter
    image_share: float = 0.0  # last share of the updates that use the intrinsic's own loss through the decoder
    precision: str = "auto"  # auto | fp32 | bf16
    gradient_checkpointing: bool = False
    checkpoint_every: int = 200  # updates between checkpoints

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self)
        if self.accumulate > self.batch:
            raise ValueError(
                f"accumulate must be at most batch = {self.batch} (it splits the batch), got {self.accumulate}"
            )

    @property
    def adapter(self) -> AdapterConfig:
        """Which weights learn."""
        return AdapterConfig(method=self.method, rank=self.rank, alpha=self.alpha, targets=self.targets)

    @property
    def readout(self) -> Readout:
        """How the network's output is read."""
        shared = {name: getattr(self, name) for name in Sampling.__dataclass_fields__ if hasattr(self, name)}
        return Readout(
            timestep=self.timestep,
            image=self.readout_image,
            output=self.readout_output,
            paint=self.paint,
            picture_weights=self.picture_weights,
            sampling=Sampling(**shared | {"seed": 0}),  # the fit's own seed draws other things
        )


def _check(config: Configuration) -> None:
    """Refuse words that are not known and numbers outside their range."""
    for name in type(config).__dataclass_fields__:
        value = getattr(config, name)
        if name in _WORDS and value not in _WORDS[name]:
            raise ValueError(f"{name} must be one of {', '.join(_WORDS[name])}, got {value!r}")
        low, high = _RANGES.get(name, (-math.inf, math.inf))
        if name in _RANGES and value is not None and not low <= value <= high:
            raise ValueError(f"{name} must be in [{low:g}, {high:g}], got {value!r}")


_WORDS = {
    "paint": ("single", "augmented"),
    "solver": ("dpm++", "ddim"),
    "method": ("lora", "dora", "rslora", "eva", "full", "scratch", "ridge", "head"),
    "schedule": ("constant", "cosine"),
    "precision": ("auto", "fp32", "bf16"),
}
_RANGES = {
    "labels": (1, math.inf),
    "seed": (0, 2**31 - 1),
    "reconstruction": (0, 0.9),
    "tie": (0, math.inf),
    "rank": (1, 4096),
    "timestep": (0, 999),
    "passes": (1, 50),
    "guidance": (0, math.inf),
    "image_guidance": (0, math.inf),
    "guidance_rescale": (0, 1),
    "ensemble": (1, math.inf),
    "steps": (1, math.inf),
    "batch": (1, math.inf),
    "accumulate": (1, math.inf),
    "lr": (0, math.inf),
    "lr_ratio": (1, math.inf),
    "warmup": (0, math.inf),
    "weight_decay": (0, math.inf),
    "clip": (0, math.inf),
    "ema": (0, 1),
    "image_share": (0, 1),
    "jitter": (0, 64),
    "checkpoint_every": (1, math.inf),
}

"""The clauses of the contract: each a check of one thing that every generator must do."""

import inspect
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ilora.adapters import file, lora
from ilora.config import Readout
from ilora.generators.base import lacking
from ilora.generators.contract.case import ADAPTER, FALL, MOVE, UPDATES, Case, bits, device_of, fell, smooth

CLOSE = {torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.1}  # merged to adapted, of the largest value
CALLS = {
    "ask": [""],
    "size": [8, 8],
    "sample": [[0], ""],
    "encode": [None],
    "target": [None],
    "decode": [None],
    "forward": [None],
    "loss": [None] * 3,
}


class Breach(Exception):
    """A check that failed: what was expected, what came, what to do."""

    def __init__(self, expected: str, got: str, advice: str) -> None:
        super().__init__(f"expected {expected}, got {got}; {advice}")


class Without(Exception):
    """A check that does not apply, and why."""


def follows(generator: Any) -> None:
    """Attributes of the right kind, methods that can be called, weights that are frozen.

    Raises:
        Breach: the first that is not.
    """
    if missing := lacking(generator):
        raise Breach("the whole protocol", f"no {', '.join(missing)}", "see ilora.generators.base.Generator for each")
    for name, (fine, wanted) in ATTRIBUTES.items():
        if not fine(value := getattr(generator, name)):
            raise Breach(f"{name} to be {wanted}", repr(value)[:80], f"set {name} in the constructor")
    for name, words in CALLS.items():
        try:
            inspect.signature(getattr(generator, name)).bind(*words)
        except TypeError as error:
            raise Breach(f"{name} to take {len(words)} arguments", str(error), "copy its signature") from error
    moving = [name for name, weight in generator.network.named_parameters() if weight.requires_grad]
    if moving:
        raise Breach("a frozen network", f"{len(moving)} weights that learn, such as {moving[0]}",
                     "call network.requires_grad_(False) in the constructor")  # fmt: skip
    if generator.network.training:
        raise Breach("a network in evaluation mode", "training mode", "call network.eval() in the constructor")


ATTRIBUTES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "name": (lambda value: isinstance(value, str) and value != "", "a word or a path"),
    "fingerprint": (lambda value: isinstance(value, str) and value != "", "a hash of the weights, as text"),
    "resolution": (lambda value: isinstance(value, int) and value > 0, "the side of its pictures [px]"),
    "network": (lambda value: isinstance(value, nn.Module), "the torch module that adapters change"),
    "targets": (
        lambda value: isinstance(value, dict) and {"attention", "attention+conv"} <= value.keys(),
        "a dictionary with attention and attention+conv",
    ),
    "readout": (lambda value: isinstance(value, Readout), "an ilora.Readout"),
}


def sizes(case: Case) -> None:
    """A picture of any shape has a size at which it is painted whole."""
    generator = case.generator
    if case.refusal:
        raise Without(f"it encodes no pictures: {case.refusal}")
    for shape in ((48, 64), (64, 48), (1, 1)):
        size = generator.size(*shape)
        with torch.no_grad():
            painted = generator.forward(generator.encode(smooth(0, *size).to(device_of(generator))))
        _same_shape(painted, (1, 3, *size), f"forward of a picture of size{shape}")


def samples(case: Case) -> None:
    """Seeds give pictures and their codes, each the same in any batch."""
    generator, side = case.generator, case.generator.resolution
    image, code = generator.sample([3, 4])
    _same_shape(image, (2, 3, side, side), "sample([3, 4])")
    if not image.isfinite().all() or image.abs().max() > 1 + 1e-3:
        raise Breach("pictures in [-1, 1]", f"values up to {image.abs().max():.3g}", "clamp what sample returns")
    if len(code) != 2:
        raise Breach("a code for each seed", f"{len(code)} codes of 2 seeds", "return one row a seed")
    alone = generator.sample([4])[0]
    if (alone - image[1:]).abs().max() > 1e-2:
        raise Breach("seed 4 to give the same picture alone and beside seed 3", "another one",
                     "give each seed a torch.Generator of its own")  # fmt: skip


def encodes(case: Case) -> None:
    """A picture has one code, the same bits each time, and a code paints the same bits each time."""
    if not torch.equal(case.paint(), case.paint()):
        raise Breach("forward to repeat itself", "other bits", "seed the noise that it draws; call network.eval()")
    if case.refusal:
        raise Without(f"it encodes no pictures: {case.refusal}")
    again = case.generator.encode(case.image.to(device_of(case.generator)))
    if not torch.equal(again, case.code):
        raise Breach("encode to repeat itself", "other bits", "return the mean of a distribution, not a draw from it")
    _same_shape(case.generator.decode(case.target), tuple(case.image.shape), "decode(target(image))")


def fresh(case: Case) -> None:
    """A fresh adapter leaves the picture as it was, to the bit."""
    before = case.paint()
    _same_shape(before, tuple(case.image.shape), "forward(code)")
    for name in ("attention", ADAPTER.targets):
        lora.attach(case.generator.network, ADAPTER, case.generator.targets[name])
        try:
            same = torch.equal(case.paint(), before)
        finally:
            lora.detach(case.generator.network)
        if not same:
            raise Breach(f"an adapter on {name!r} to start from the base", "another picture",
                         "leave out layers whose weights are read around their forward")  # fmt: skip


def off(case: Case) -> None:
    """An adapter that is switched off or taken off leaves the base, to the bit."""
    before = case.paint()
    with case.adapted(moved=True):
        if torch.equal(case.paint(), before):
            raise Breach("an adapter that moved to change the picture", "the same bits", ALIVE)
        with lora.disabled(case.generator.network):
            if not torch.equal(case.paint(), before):
                raise Breach("the base with the adapter switched off", "other bits", "keep no state in the network")
    if not torch.equal(case.paint(), before):
        raise Breach("the base with the adapter taken off", "other bits", "keep no copy of the network's layers")


def learns(case: Case) -> None:
    """The native loss is one number an image and falls within some updates."""
    losses = case.lesson.losses
    _same_shape(losses, (UPDATES, len(case.code)), f"{UPDATES} times loss(code, target, valid)")
    if not losses.isfinite().all():
        raise Breach("a finite loss", str(losses[:, 0].tolist()), "look for divisions by zero")
    if not fell(losses.mean(1)):
        raise Breach(f"a mean loss below {FALL} of the first", f"{losses.mean(1).tolist()}",
                     "does the loss compare what the adapted network painted with the target?")  # fmt: skip


def mirrored(case: Case) -> None:
    """An example and its mirror image are both learned; the mirror's mirror is the example."""
    if case.refusal:
        raise Without(f"it encodes no pictures: {case.refusal}")
    if not torch.allclose(case.kind.flip(case.map[1:]), case.map[:1]):
        raise Breach("flip(flip(map)) to be the map", "another one", f"correct flip of {case.kind.name}")
    losses = case.lesson.losses
    for place, which in ((0, "the example"), (1, "its mirror image")):
        if not fell(losses[:, place]):
            raise Breach(f"the loss of {which} to fall", str(losses[:, place].tolist()),
                         "treat the images of a batch alike")  # fmt: skip


def gradients(case: Case) -> None:
    """Every weight of the adapter gets a finite gradient, also through the decoder, and nothing valid costs nothing."""
    grads = case.lesson.gradients
    lost = [name for name, grad in grads.items() if grad is None or not grad.isfinite().all()]
    if lost:
        raise Breach("finite gradients", f"none or NaN for {len(lost)} weights, such as {lost[0]}", ALIVE)
    if all((grad == 0).all() for grad in grads.values()):
        raise Breach("gradients that are not all zero", "zeros", "do not detach what the network painted")
    nothing = case.loss(torch.zeros_like(case.valid))
    if not (nothing == 0).all():
        raise Breach("a loss of 0 for an image without a valid pixel", str(nothing.tolist()), "divide by max(count, 1)")
    with case.adapted(moved=False):
        case.kind.loss(case.generator.forward(case.code).cpu(), case.map, case.valid).mean().backward()
        weights = lora.trainable(case.generator.network)
        if not any(weight.grad is not None and weight.grad.any() for weight in weights):
            raise Breach("gradients through forward", "none", "do not call forward's network or decoder under no_grad")


def frozen(case: Case) -> None:
    """Learning moved the adapter and nothing else."""
    assert case.lesson.rate > 0  # the updates have been made
    after = bits(case.generator)
    moved = [name for name, bits in case.bits.items() if after.get(name) != bits]
    if moved:
        raise Breach("the frozen weights as they were", f"{len(moved)} that moved, such as {moved[0]}",
                     "freeze all weights, and keep running statistics from being updated")  # fmt: skip


def merged(case: Case) -> None:
    """A merged adapter paints what the adapter beside the weights painted; unmerged, the same bits as before."""
    with case.adapted(moved=True):
        beside = case.paint()
        lora.merge(case.generator.network)
        apart = (case.paint() - beside).abs().max() / beside.abs().max()
        lora.unmerge(case.generator.network)
        back = torch.equal(case.paint(), beside)
    limit = CLOSE[next(case.generator.network.parameters()).dtype]
    if not apart <= limit:
        raise Breach(f"the same picture within {limit:g} of its largest value", f"{apart:.2g} apart",
                     "let layers use their weight as it is at the call, not a copy of it")  # fmt: skip
    if not back:
        raise Breach("the adapter's picture after unmerging", "other bits", "keep no copy of the network's layers")


def saved(case: Case) -> None:
    """An adapter that was written to a file and read back paints the same bits."""
    network, generator = case.generator.network, case.generator
    about = file.About(generator=generator.name, fingerprint=generator.fingerprint, intrinsic=case.kind.name,
                       units=case.kind.units, adapter=ADAPTER, readout=generator.readout)  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        with case.adapted(moved=True):
            before = case.paint()
            file.write(Path(folder) / file.FILE, lora.state(network), about)
        weights, read = file.read(Path(folder))
    file.match(read, generator)
    with case.adapted(moved=True, seed=1):
        lora.load_state(network, weights)
        if read.readout != generator.readout or not torch.equal(case.paint(), before):
            raise Breach("the same picture after reading", "other bits", "keep all that learns in the network")


def alive(case: Case) -> None:
    """Each adapter, changed alone, changes the picture."""
    network = case.generator.network
    with case.adapted(moved=True):
        before, state = case.paint(), lora.state(network)
        layers = dict.fromkeys(name.partition(".lora_")[0] for name in state)
        dead = []
        for layer in _suspects(case, list(layers)):
            changed = {n: 1.5 * v + MOVE if n.startswith(f"{layer}.lora_") else v for n, v in state.items()}
            lora.load_state(network, changed)
            dead += [layer] if torch.equal(case.paint(), before) else []
    if dead:
        raise Breach(f"each of {len(layers)} adapters to change the picture",
                     f"{len(dead)} without effect: {', '.join(dead[:3])}", ALIVE)  # fmt: skip


def _suspects(case: Case, layers: list[str]) -> list[str]:
    """The layers whose adapters get no gradient from the picture; the others are alive, which saves trying each."""
    painted = case.generator.forward(case.code)
    mixed = (painted.float() * torch.rand(painted.shape, generator=torch.Generator().manual_seed(0)).to(painted)).sum()
    if mixed.requires_grad:
        mixed.backward()
    felt = {
        name.partition(".lora_")[0]
        for name, weight in case.generator.network.named_parameters()
        if ".lora_" in name and weight.grad is not None and weight.grad.any()
    }
    return [layer for layer in layers if layer not in felt]


ALIVE = "call the layers themselves (layer(x), not layer.weight), and leave those out of targets that nothing uses"
GENERAL = (sizes, samples, encodes)  # the same whatever the intrinsic
LEARNING = (fresh, off, learns, mirrored, gradients, frozen, merged, saved, alive)
CHECKS = (*GENERAL, *LEARNING)


def _same_shape(found: Tensor, wanted: tuple[int, ...], what: str) -> None:
    if tuple(found.shape) != wanted:
        raise Breach(f"{what} to be {list(wanted)}", str(list(found.shape)), "mind the order of the axes")

"""One contract for all families: every clause holds for each of them with each intrinsic, and each clause can fail."""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from ilora.config import Readout, Sampling
from ilora.generators import load
from ilora.generators.base import Generator
from ilora.generators.contract import check, examine
from ilora.generators.contract.clauses import CHECKS, LEARNING
from ilora.generators.toy import Toy
from ilora.intrinsics import NAMES, intrinsic
from tests import tiny, tiny_flow, tiny_stylegan, tiny_tokens

AUGMENTED = Readout(paint="augmented", sampling=Sampling(passes=2))


def beside(generator: Generator) -> Generator:
    """With the layer that the picture enters among those that are adapted."""
    generator.targets["attention+conv"] = generator.targets["attention+conv+in"]
    return generator


def flow(family: str, folder: Path) -> Generator:
    """A tiny diffusion transformer."""
    tiny_flow.write(family, folder)
    return load(str(folder), readout=Readout(timestep=1, image=0.0, output=None))


# A new family is one line: a word, and a function that makes a tiny member of it in an empty folder.
FAMILIES: dict[str, Callable[[Path], Generator]] = {
    "toy": lambda folder: load("toy"),
    "latent diffusion": lambda folder: load(str(tiny.smallest(folder))),
    "latent diffusion, augmented": lambda folder: beside(load(str(tiny.smallest(folder)), readout=AUGMENTED)),
    "flow": lambda folder: flow("sd3", folder),
    "StyleGAN 2": lambda folder: load(str(tiny_stylegan.write_stylegan2(folder))),
    "StyleGAN 3": lambda folder: load(str(tiny_stylegan.write_stylegan3(folder))),
    "tokens, decoder": lambda folder: load(f"{tiny_tokens.write_autoregressive(folder)}@decoder"),
    "tokens, readout": lambda folder: load(f"{tiny_tokens.write_autoregressive(folder)}@readout"),
}


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Generator]:
    """The tiny member of a family, made once."""
    return cache(lambda family: FAMILIES[family](tmp_path_factory.mktemp("member")))


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_contract(family: str, kind: str, member: Callable[[str], Generator]) -> None:
    clauses = CHECKS if kind == NAMES[0] else LEARNING
    findings = list(check(member(family), intrinsic(kind), clauses))
    assert [str(finding) for finding in findings if finding.passed is False] == []
    assert [finding.check for finding in findings] == ["protocol", *(clause.__name__ for clause in clauses)]


# Each clause finds what it is for. Of a breach: the clause, and words of what it says.


class Good(Toy):
    """The toy, whose faulty children follow."""

    def __init__(self) -> None:
        super().__init__(Readout(), "cpu", torch.float32)


class Unfrozen(Good):
    def __init__(self) -> None:
        super().__init__()
        self.network.requires_grad_(True)


class Nameless(Good):
    name = ""


class Narrow(Good):
    def loss(self, code, target):
        return super().loss(code, target, None)


class Growing(Good):
    def size(self, height, width):
        return height + 1, width


class Bright(Good):
    def sample(self, seeds, prompt=""):
        image, code = super().sample(seeds)
        return 3 * image, code


class Mixing(Good):
    def sample(self, seeds, prompt=""):
        image, code = super().sample(seeds)
        return image.flip(0), code


class Drawing(Good):
    def encode(self, image):
        code = super().encode(image)
        return code + 1e-3 * torch.randn_like(code)


class Dropping(Good):
    def forward(self, code):
        return nn.functional.dropout(super().forward(code))


class Averaging(Good):
    def loss(self, code, target, valid):
        return super().loss(code, target, valid).mean()[None]


class Deaf(Good):
    def loss(self, code, target, valid):
        return super().loss(code, target, valid) * 0 + 1


class FirstOnly(Good):
    def loss(self, code, target, valid):
        losses = super().loss(code, target, valid)
        return losses * torch.tensor([1.0, 0.0]) + torch.tensor([0.0, 0.01])


class Dividing(Good):
    def loss(self, code, target, valid):
        return super().loss(code, target, valid) / valid.flatten(1).sum(1)


class Detached(Good):
    def forward(self, code):
        return super().forward(code).detach() * next(self.network.parameters()).new_ones(1).requires_grad_()


class Counting(Good):
    def __init__(self) -> None:
        super().__init__()
        self.codec.register_buffer("seen", torch.zeros(1))

    def loss(self, code, target, valid):
        self.codec.seen += 1
        return super().loss(code, target, valid)


class Copied(Good):
    """Reads the weight of one layer at birth, so that merging does not reach it."""

    def __init__(self) -> None:
        super().__init__()
        layer, weight = self.network.proj_out, self.network.blocks[0].to_out[0].weight.clone()
        layer.register_forward_hook(lambda _, given, out: out + 3 * (given[0] @ (self._own() - weight).T)[..., :48])

    def _own(self):
        return self.network.blocks[0].to_out[0].weight


class Ignoring(Good):
    """Adapters on a layer that nothing calls."""

    def __init__(self) -> None:
        super().__init__()
        self.network.spare = nn.Linear(4, 4).requires_grad_(False)
        self.targets |= {"attention+conv": r".*\.to_q|spare"}


class Elsewhere(Good):
    """Adapters on layers that nothing calls at all."""

    def __init__(self) -> None:
        super().__init__()
        self.network.spare = nn.Linear(4, 4).requires_grad_(False)
        self.targets |= {"attention+conv": r"spare"}


@pytest.mark.parametrize(
    ("made", "clause", "words"),
    [
        (object, "protocol", r"no name, fingerprint, .* loss; see"),
        (Nameless, "protocol", r"expected name to be a word or a path, got ''; set name in the constructor"),
        (Narrow, "protocol", r"expected loss to take 3 arguments, got too many positional arguments"),
        (Unfrozen, "protocol", r"got \d+ weights that learn, such as .*; call network.requires_grad_\(False\)"),
        (Growing, "sizes", r"forward of a picture of size\(48, 64\) to be \[1, 3, 49, 64\], got \[1, 3, 48, 64\]"),
        (Bright, "samples", r"pictures in \[-1, 1\], got values up to"),
        (Mixing, "samples", r"seed 4 to give the same picture alone and beside seed 3"),
        (Drawing, "encodes", r"encode to repeat itself, got other bits; return the mean"),
        (Dropping, "encodes", r"forward to repeat itself, got other bits; .* network.eval"),
        (Averaging, "learns", r"\[6, 2\], got \[6, 1\]"),
        (Deaf, "learns", r"a mean loss below 0.95 of the first"),
        (FirstOnly, "mirrored", r"the loss of its mirror image to fall"),
        (Dividing, "gradients", r"a loss of 0 for an image without a valid pixel, got \[nan, nan\]"),
        (Detached, "gradients", r"gradients through forward, got none"),
        (Counting, "frozen", r"1 that moved, such as codec.seen"),
        (Copied, "merged", r"the same picture within 0.001 of its largest value, got"),
        (Ignoring, "alive", r"each of 3 adapters to change the picture, got 1 without effect: spare; call the layers"),
        (Elsewhere, "off", r"an adapter that moved to change the picture, got the same bits"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_breach_is_found_and_said(made: type, clause: str, words: str) -> None:
    clauses = [one for one in CHECKS if one.__name__ == clause]
    findings = {finding.check: finding for finding in check(made(), intrinsic("depth"), clauses)}
    assert findings[clause].passed is False
    assert re.search(words, findings[clause].words), findings[clause].words


def test_a_generator_that_encodes_no_pictures_is_taken_at_its_samples() -> None:
    class Blind(Good):
        def encode(self, image):
            raise ValueError("draw codes with sample")

        def target(self, image):
            return self.codec.encode(image)

    found = {finding.check: finding for finding in check(Blind(), intrinsic("normal"))}
    assert {name for name, finding in found.items() if finding.passed is None} == {"sizes", "encodes", "mirrored"}
    assert [str(finding) for finding in found.values() if finding.passed is False] == []
    assert "draw codes with sample" in str(found["mirrored"])


def test_it_leaves_the_generator_as_it_was() -> None:
    toy = load("toy")
    before = {name: tensor.clone() for name, tensor in toy.network.state_dict().items()}
    list(check(toy, intrinsic("normal")))
    after = toy.network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not any(weight.requires_grad for weight in toy.network.parameters())


def test_by_name_the_general_clauses_run_once() -> None:
    names = [finding.check for finding in examine("toy", intrinsics=("normal", "depth"))]
    assert names.count("sizes") == names.count("samples") == 1
    assert names.count("alive") == names.count("protocol") == 2

"""Tiny random StyleGANs, written as folders of ours and in the true layouts of other programs.

The layouts are written down here from the raw form of our own weights, independently of the readers under test: the
equalised gains are divided out again, names and axes are the other program's.
"""

from pathlib import Path

import torch
from scipy.signal import firwin
from torch import nn

from ilora.generators import stylegan_files
from ilora.generators.inversion import Encoder, EncoderShape
from ilora.generators.stylegan2 import Shape2, StyleGAN2
from ilora.generators.stylegan3 import LayerShape, Shape3, StyleGAN3
from ilora.generators.stylegan_layers import MappingShape


def mapping(**changes: object) -> MappingShape:
    """Of a tiny network: two layers, 12 numbers of noise, styles of 16."""
    return MappingShape(**({"z": 12, "w": 16, "layers": 2} | changes))


def shape2(**changes: object) -> Shape2:
    """A StyleGAN 2 of 32 px."""
    return Shape2(**({"widths": (16, 16, 12, 8), "clamp": 256.0, "mapping": mapping()} | changes))


def shape3(**changes: object) -> Shape3:
    """A StyleGAN 3 of 16 px: two layers that double and halve the sampling rate in between, and the one that paints."""
    first = {"up": 2, "down": 2, "padding": (5, 4, 5, 4), "up_taps": (6,), "down_taps": (6,)}
    second = {"up": 4, "down": 2, "padding": (-3, -6, -3, -6), "up_taps": (12,), "down_taps": (6, 6)}
    last = {"padding": (-5, -7, -7, -5), "paints": True}
    layers = (
        LayerShape(name="L0_20_12", inputs=12, outputs=12, **first),
        LayerShape(name="L1_28_8", inputs=12, outputs=8, kernel=1, **second),
        LayerShape(name="L2_16_3", inputs=8, outputs=3, kernel=1, **last),
    )
    grid = {"channels": 12, "size": (18, 18), "sampling_rate": 16.0, "bandwidth": 2.0}
    own = {"resolution": 16, "layers": layers, **grid}
    return Shape3(**(own | {"mapping": mapping()} | changes))


def network2(**changes: object) -> StyleGAN2:
    """A seeded StyleGAN 2 whose every weight matters: biases, noise and mean style are not zero."""
    return _drawn(lambda: StyleGAN2(shape2(**changes)))


def network3(**changes: object) -> StyleGAN3:
    """A seeded StyleGAN 3 with low-pass filters and Fourier features in its band."""
    network = _drawn(lambda: StyleGAN3(shape3(**changes)))
    numbers = torch.Generator().manual_seed(5)
    with torch.no_grad():
        source = network.synthesis.input
        source.freqs.copy_(torch.randn(source.freqs.shape, generator=numbers) * 2)
        source.phases.copy_(torch.rand(source.phases.shape, generator=numbers) - 0.5)
        source.affine.bias.copy_(torch.tensor([1.2, 0.3, 0.05, -0.1]))
        for name in network.synthesis.names[:-1]:
            layer = network.synthesis.get_submodule(name)
            layer.gain.fill_(0.8)
            for taps in (layer.up_filter, layer.down_filter):
                line = torch.tensor(firwin(taps.shape[0], 0.4), dtype=torch.float32)
                taps.copy_(line if taps.ndim == 1 else line[:, None] * line)
    return network


def write_stylegan2(folder: Path, *, encoder: bool = True, steps: int = 2) -> Path:
    """A folder of ours with a tiny StyleGAN 2 of 32 px, for ``ilora.generators.load``.

    Args:
        encoder: with a (random) encoder of real pictures, and ``steps`` of refinement.
    """
    return _write(folder, network2(), encoder=encoder, steps=steps)


def write_stylegan3(folder: Path, *, encoder: bool = True, steps: int = 2) -> Path:
    """A folder of ours with a tiny StyleGAN 3 of 16 px; as ``write_stylegan2``."""
    return _write(folder, network3(), encoder=encoder, steps=steps)


def _write(folder: Path, network: nn.Module, *, encoder: bool, steps: int) -> Path:
    stylegan_files.write(folder, network, origin="a test")
    if encoder:
        shape = EncoderShape(styles=network.shape.styles, w=network.shape.mapping.w, side=16, width=8, features=16)
        made = _drawn(lambda: Encoder(shape))
        stylegan_files.write_encoder(folder, made)
        stylegan_files.write_config(folder, {"inversion": {"steps": steps}})
    return folder


def _drawn(make) -> nn.Module:
    """A module, seeded; what would be zero is drawn too."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = make().eval().requires_grad_(False)
        for name, tensor in module.state_dict().items():
            if name.endswith(("bias", "noise_strength", "w_avg", "head.weight")):
                tensor.add_(0.1 * torch.randn(tensor.shape))
    return module

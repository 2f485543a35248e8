"""Pictures to tokens and back: codecs with a codebook (van den Oord et al. 2017; Esser et al. 2021, section 3.1)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ilora.records import Image

# Of diffusers' VQModel (linear projections) and of transformers' Janus (1 x 1 convolutions).
ATTENTION = r"decoder\..*(attentions\.\d+\.to_(q|k|v|out\.0)|attn(_|\.)\d+\.(q|k|v|proj_out))"
CONVOLUTION = r"decoder\..*\.(conv1|conv2|conv_shortcut|nin_shortcut|(upsamplers\.0|upsample)\.conv)"
TARGETS = {
    "attention": ATTENTION,  # of the publication: all projections of the decoder's attention blocks
    "attention+conv": f"{ATTENTION}|{CONVOLUTION}",
    "all": r".*",  # every linear and convolution layer
}


class Head(nn.Module):
    """The painting half of a codec: quantised latents to images. Its layers keep the names that they have there."""

    def __init__(self, codec: nn.Module) -> None:
        """Share ``post_quant_conv`` and ``decoder`` with the codec."""
        super().__init__()
        self.post_quant_conv, self.decoder = codec.post_quant_conv, codec.decoder

    def forward(self, latent: Float[Tensor, "b d rows columns"]) -> Float[Tensor, "b 3 h w"]:
        """Image in the codec's own range, in the type of the weights."""
        return self.decoder(self.post_quant_conv(latent.to(self.post_quant_conv.weight.dtype)))


class Codebook:
    """A frozen codec between images and grids of tokens.

    Attributes:
        head: its painting half.
        side: of the square of pixels that a token stands for [px].
        size: number of entries.
    """

    def __init__(self, codec: nn.Module, *, side: int, unsigned: bool = False, unit: bool = False) -> None:
        """Wrap ``diffusers.VQModel`` or transformers' ``JanusVQVAE``, which name their parts alike.

        Args:
            side: of a token [px].
            unsigned: the codec's images are in [0, 1] (aMUSEd), not in [-1, 1].
            unit: latent cells and entries are compared, and entries painted, at length 1 (Janus; the port in
                transformers compares them as they are, unlike the authors' own ``VectorQuantizer``).

        Raises:
            ValueError: a decoder that reads the latent at every level, as those of Kandinsky do.
        """
        if getattr(codec.config, "norm_type", "group") != "group":
            raise ValueError(f"the codec's norm_type must be 'group', got {codec.config.norm_type!r}")
        self._codec, self._unsigned, self._unit = codec, unsigned, unit
        self.head, self.side = Head(codec).train(codec.training), side
        self.size = codec.quantize.embedding.num_embeddings

    @property
    def device(self) -> torch.device:
        """Where the codec is."""
        return self._codec.quantize.embedding.weight.device

    @torch.no_grad()
    def tokens(self, image: Image) -> Int[Tensor, "b rows columns"]:
        """The entry nearest to each latent cell of an image whose sides are multiples of ``side``."""
        image = image.to(self._codec.quantize.embedding.weight)
        image = (image + 1) / 2 if self._unsigned else image
        latent = self._codec.quant_conv(self._codec.encoder(image))  # [b, d, rows, columns]
        cells = self._measured(latent.permute(0, 2, 3, 1).flatten(0, 2))  # [b * rows * columns, d]
        return torch.cdist(cells, self._entries()).argmin(1).unflatten(0, (len(image), *latent.shape[2:]))

    def embed(self, tokens: Int[Tensor, "b rows columns"]) -> Float[Tensor, "b d rows columns"]:
        """The entries of tokens as the head takes them, float32."""
        return self._entries()[tokens].permute(0, 3, 1, 2)

    def expect(self, logits: Float[Tensor, "b k rows columns"]) -> Float[Tensor, "b d rows columns"]:
        """The mean entry under each cell's distribution, softmax(logits) @ codebook, float32; gradients pass."""
        with torch.autocast(logits.device.type, enabled=False):
            return torch.einsum("bkrc,kd->bdrc", logits.float().softmax(1), self._entries())

    def paint(self, latent: Float[Tensor, "b d rows columns"]) -> Image:
        """Image of entries or of mixtures of them, float32 in [-1, 1] but not clamped; gradients pass."""
        image = self.head(latent).float()
        return image * 2 - 1 if self._unsigned else image

    def _entries(self) -> Float[Tensor, "k d"]:
        return self._measured(self._codec.quantize.embedding.weight)

    def _measured(self, vectors: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Entries or latent cells as distances are measured between them, float32."""
        return nn.functional.normalize(vectors.float(), dim=-1) if self._unit else vectors.float()

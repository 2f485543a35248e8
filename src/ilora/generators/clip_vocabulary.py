"""CLIP's own tokenizer, for checkpoints that come as one file and therefore without theirs.

The merges are those of github.com/openai/CLIP (MIT licence, clip_merges.LICENSE); SD 1.x, 2.x and XL all use them.
"""

import gzip
from functools import cache
from pathlib import Path
from typing import Any

MERGES = Path(__file__).parent / "clip_merges.txt.gz"
START, END = "<|startoftext|>", "<|endoftext|>"


@cache
def vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Token numbers and merges: 256 byte letters, the same ending a word, one token a merge, start and end."""
    merges = [tuple(line.split()) for line in gzip.decompress(MERGES.read_bytes()).decode().splitlines()]
    letters = _letters()
    words = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges), START, END]
    return {word: number for number, word in enumerate(words)}, merges


def tokenizer(pad: str) -> Any:
    """transformers' ``CLIPTokenizer`` with 49,408 tokens and 77 places.

    Args:
        pad: token after the text's end: the end token for CLIP ViT-L, ``!`` for the OpenCLIP models of SD 2.x and XL.
    """
    from transformers import CLIPTokenizer

    numbers, merges = vocabulary()
    return CLIPTokenizer(vocab=dict(numbers), merges=list(merges), pad_token=pad, model_max_length=77)


def _letters() -> list[str]:
    """One printable letter for each byte: itself where it is printable, else the next free one from 256 on.

    The order is that of the vocabulary: the printable bytes first (Radford et al. 2019, byte-level BPE).
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = 256 - len(printable)
    return [chr(number) for number in printable] + [chr(256 + number) for number in range(others)]

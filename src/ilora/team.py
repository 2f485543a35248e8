"""The processes that share one fit, and where each of them computes."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor

from ilora.run import say


def default_device() -> torch.device:
    """The accelerator of this machine, or the CPU."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found or torch.device("cpu")


def has_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for bf16; without them it is emulated, at a tenth of fp32's speed."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able = getattr(torch.cpu, "get_capabilities", dict)()
    return device.type == "cpu" and bool(able.get("avx512_bf16") or able.get("amx_bf16"))


class Team:
    """The processes that share one fit: a single one, unless ``accelerate launch`` or ``torchrun`` started several.

    Attributes:
        rank: number of this process; 0 writes the files.
        size: how many there are.
        device: where this one computes.
    """

    def __init__(self, device: str | None = None) -> None:
        """Find the device and the other processes.

        Args:
            device: such as ``cpu`` or ``cuda:1``; None: the accelerator of this machine, or the CPU.

        Raises:
            ImportError: several processes were started and accelerate is not installed.
        """
        self.rank, self.size, self._accelerator = 0, 1, None
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            try:
                from accelerate import Accelerator
            except ImportError as error:
                raise ImportError("several processes need accelerate: pip install 'ilora[diffusion]'") from error
            self._accelerator = Accelerator(cpu=device == "cpu")
            self.rank, self.size = self._accelerator.process_index, self._accelerator.num_processes
            self.device = self._accelerator.device
        else:
            self.device = default_device() if device is None else torch.device(device)

    def say(self, line: str) -> None:
        """``say``, once."""
        if self.rank == 0:
            say(line)

    @contextmanager
    def first(self) -> Iterator[None]:
        """Process 0 runs the block before the others, which then find its results cached."""
        if self._accelerator is None:
            yield
        else:
            with self._accelerator.main_process_first():
                yield

    def unite(
        self, weights: Iterable[Tensor], loss: Float[Tensor, ""], *, stop: bool
    ) -> tuple[Float[Tensor, ""], bool]:
        """Add up what the processes found out about one update, in one exchange.

        Args:
            weights: their gradients become the sums over the processes, in place.
            loss: this process's share.
            stop: whether somebody asked this process to stop.

        Returns:
            The whole loss, and whether any process was asked to stop, so that all end after the same update.
        """
        if self._accelerator is None:
            return loss, stop
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        words = loss.new_tensor([loss, stop])
        flat = torch.cat([*(gradient.flatten() for gradient in gradients), words])
        flat = self._accelerator.reduce(flat, reduction="sum")
        for gradient, part in zip(gradients, flat[:-2].split([each.numel() for each in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))
        return flat[-2], bool(flat[-1] > 0)

"""Two teachers for tests: depth from brightness, normals from colours."""

import torch
from torch import Tensor

from ilora.data import meta


class Bright:
    """Depth from brightness, in centimetres, not known in the dark; it counts what it is asked."""

    name, story, declares = "bright", "brightness", {"depth": meta.Depths(unit="cm")}

    def __init__(self, fingerprint: str = "1") -> None:
        self.fingerprint = fingerprint
        self.seen: list[int] = []

    def label(self, image: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        self.seen.append(len(image))
        grey = image.mean(1, keepdim=True)
        return {"depth": (300 + 100 * grey, grey > grey.amin((1, 2, 3), keepdim=True))}


class Facing:
    """Normals that lean with the colours: towards the viewer if ``sign`` is 1."""

    name, story, declares, fingerprint = "facing", "colours", {"normal": meta.Normals(axes="LUB")}, "2"

    def __init__(self, sign: float = 1.0) -> None:
        self.sign = sign

    def label(self, image: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        normal = torch.nn.functional.normalize(torch.cat([image[:, :2] / 4, torch.ones_like(image[:, :1])], 1), dim=1)
        return {"normal": (self.sign * normal, torch.ones_like(image[:, :1], dtype=torch.bool))}


class Device(Bright):
    """As a name of the form MODULE:CLASS makes it: with the device."""

    def __init__(self, device: str) -> None:
        super().__init__(device)


class Doubtful(Facing):
    """``Facing``, but the second picture that it sees faces away."""

    fingerprint = "3"

    def __init__(self, device: str) -> None:
        super().__init__()
        self.seen = 0

    def label(self, image: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        normal, valid = super().label(image)["normal"]
        number = torch.arange(self.seen, self.seen + len(image))[:, None, None, None]
        self.seen += len(image)
        return {"normal": (torch.where(number == 1, -normal, normal), valid)}

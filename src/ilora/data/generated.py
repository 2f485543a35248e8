"""A folder of pictures that a generator painted: the codes that it painted them from lie beside the labels."""

import json
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from ilora import tensors
from ilora.data.cache import content_hash
from ilora.data.folder import Folder
from ilora.data.problems import Problem
from ilora.records import Example, Painted

FOLDER = "codes"  # one safetensors file an example, named after it
KEY = "painted"  # of its header: JSON with the generator's name and fingerprint, prompt and seed
AGAIN = "let ilora label paint it again, or leave it out"


def has_codes(path: str | Path) -> bool:
    """Whether a folder of labelled pictures has the codes, too."""
    return (Path(path).expanduser() / FOLDER).is_dir()


def place(folder: Path, name: str) -> Path:
    """The file of one picture's code."""
    return folder / FOLDER / f"{name}.safetensors"


def write(folder: Path, name: str, painted: Painted, about: dict[str, str | int]) -> Path:
    """Write the code of one picture, whole or not at all.

    Args:
        folder: of the labelled pictures.
        name: of the picture.
        about: who painted it from what, for people.
    """
    path = place(folder, name)
    header = {KEY: json.dumps({**about, "fingerprint": painted.generator}, ensure_ascii=False)}
    tensors.write(path, {"code": painted.code.detach().cpu()}, header)
    return path


def read(path: Path) -> Painted:
    """The code in a file of ``write``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged, or something else.
    """
    values, header = tensors.read(path)
    if set(values) != {"code"} or KEY not in header:
        raise ValueError(f"{path} must hold a code and say who painted from it, got {sorted(values)}; {AGAIN}")
    return Painted(values["code"], json.loads(header[KEY])["fingerprint"])


class Generated(Folder):
    """A labelled folder whose examples come with the codes that they were painted from."""

    @cached_property
    def fingerprint(self) -> str:
        """Hash of what ``Folder`` hashes, and of the codes."""
        return content_hash(Folder.fingerprint.func(self), [place(self.path, name) for name in self.names])

    def __getitem__(self, index: int) -> Example:
        """The example at ``index``, with its code.

        Raises:
            ValueError: one of its files cannot be read; the message begins with the file.
        """
        return replace(super().__getitem__(index), painted=read(place(self.path, self.names[index])))

    def problems(self, index: int) -> list[Problem]:
        """Everything that is wrong with the example at ``index``, its code included."""
        name = self.names[index]
        found = super().problems(index)
        try:
            read(place(self.path, name))
        except (ValueError, FileNotFoundError) as error:
            missing = isinstance(error, FileNotFoundError)
            what = "there is no code of this picture" if missing else "its code cannot be read"
            found.append(Problem(name, f"{FOLDER}/{name}.safetensors", what, AGAIN))
        return found

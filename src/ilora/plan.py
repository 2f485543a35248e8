"""What a fit shall do, before it does anything: its configuration, its precision, its run folder."""

from pathlib import Path
from typing import Any

import torch

from ilora.config import FitConfig
from ilora.generators.foreign import is_code
from ilora.presets import named_readout, preset
from ilora.run import Run, read_json, versions, write_json
from ilora.team import has_bf16

LARGE = 100_000_000  # weights of a network that is faster in bf16 on CPUs with instructions for it


def configure(out: Path | str, given: dict[str, Any], *, resume: bool = False) -> FitConfig:
    """The configuration of a fit from the fields that somebody named.

    Args:
        out: run folder.
        given: fields of ``FitConfig``, or the name of a ``readout``; the others come from the preset (``default`` if
            none is given), or with ``resume`` from the run.
        resume: go on with the run in ``out``, if there is one.

    Raises:
        ValueError: an unknown field or preset, a value that cannot be, a run whose generator is ``MODULE:CLASS``,
            code that nobody named, or no run to go on with and no field to begin one from.
    """
    saved = Run(Path(out).expanduser()).config
    if resume and not given and not saved.is_file():
        raise ValueError(
            f"expected a run to go on with, got no {saved.name} in {out}; correct --out, or say what to fit"
        )
    if resume and saved.is_file():
        begun = FitConfig.read(read_json(saved))
        if is_code(begun.generator) and "generator" not in given:
            raise ValueError(
                f"{out} was begun with the generator {begun.generator}, whose code would run; "
                f"a file may not decide that, so name it again: --generator {begun.generator}"
            )
        return begun.replace(**named_readout(given))
    return preset(**{"name": given.get("preset", "default")} | {k: v for k, v in given.items() if k != "preset"})


def after(stopped: KeyboardInterrupt, out: Path | str) -> str:
    """How to go on with the fit that Ctrl-C stopped, in a line."""
    if not Run(Path(out).expanduser()).config.is_file():
        return "nothing was begun; give the same command again"
    return f"{str(stopped) or 'stopped'}: ilora fit --resume --out {out}"


def precision(config: FitConfig, weights: int, device: torch.device) -> str:
    """fp32 or bf16.

    One forward and backward pass of Stable Diffusion's U-Net at 256 px took 15.1 s in fp32 and 3.9 s in bf16 on a core
    with AVX-512 BF16; those of ``rooms-diffusion`` (batch 8) 230 ms and 200 to 231 ms, which is not worth its rounding.
    """
    if config.precision != "auto":
        return config.precision
    worth = device.type == "cuda" or weights >= LARGE
    return "bf16" if worth and has_bf16(device) else "fp32"


def check_place(run: Run, *, resume: bool) -> None:
    """Refuse a folder that is taken.

    Raises:
        FileExistsError: it holds a run that shall not be resumed, or other files.
    """
    if run.config.is_file() and not resume:
        raise FileExistsError(f"{run.path} holds a run already; go on with it (--resume), or choose another --out")
    taken = [path.name for path in run.path.glob("*") if not path.name.startswith(".")]
    if taken and not run.config.is_file():
        raise FileExistsError(f"{run.path} must be empty or a run, got {taken[0]} in it; choose another --out")


def begin(run: Run, config: FitConfig, source: dict[str, Any]) -> None:
    """Write down what the run depends on, or check that it was begun with the same.

    Raises:
        ValueError: it was begun otherwise; the message names the first field that differs.
    """
    if not run.config.is_file():
        write_json(run.config, config.write())
    begun, wanted = FitConfig.read(read_json(run.config)).write(), config.write()  # fields that are new have defaults
    for name in wanted:
        if begun[name] != wanted[name]:
            raise ValueError(
                f"{run.path} was begun with {name} = {begun[name]!r}, got {wanted[name]!r}; "
                "resume it as it was begun, or choose another --out"
            )
    if not run.data.is_file():
        write_json(run.versions, versions())
        write_json(run.data, source)
    if read_json(run.data)["fingerprint"] != source["fingerprint"]:
        raise ValueError(f"{config.data!r} has other content than {run.path} was begun with; choose another --out")

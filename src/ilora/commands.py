"""The commands about what the others work with: generators, scenes, data sets. No logic of its own."""

from pathlib import Path
from typing import Annotated

import typer

zoo = typer.Typer(help="The embedded generators: cards, and how each was trained.", no_args_is_help=True)
scenes = typer.Typer(help="Rendered rooms with exact ground truth.", no_args_is_help=True)
datasets = typer.Typer(help="Published data sets and folders: what is there, and what is in it.", no_args_is_help=True)

Out = Annotated[Path, typer.Option(help="Folder to write to.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps. Default: the accelerator, if there is one.")]


@zoo.command("list")
def zoo_list() -> None:
    """Names of the embedded generators."""
    from ilora.zoo.cards import names

    for name in names():
        typer.echo(name)


@zoo.command("show")
def zoo_show(name: Annotated[str, typer.Argument(help="Embedded generator.")]) -> None:
    """The card of one generator: parameters, data, quality, codec ceiling."""
    from ilora.zoo.cards import show

    typer.echo(show(name))


@zoo.command("train")
def zoo_train(
    name: Annotated[str, typer.Argument(help="Recipe.")],
    out: Out,
    pictures: Annotated[Path | None, typer.Option(help="Shards of 'ilora scenes render'. Default: rendered.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what --out holds.")] = False,
    snapshots: Annotated[bool, typer.Option("--snapshots", help="Also leave the ladder's generators.")] = False,
    device: Device = None,
) -> None:
    """Train an embedded generator on rendered pictures and captions only, measure it and write its card."""
    from ilora.zoo.make import make

    typer.echo(make(name, out, pictures=pictures, resume=resume, snapshots=snapshots, device=device))


@zoo.command("encoder")
def zoo_encoder(
    folder: Annotated[Path, typer.Argument(help="Folder of a StyleGAN that 'ilora convert' wrote.")],
    pictures: Annotated[Path | None, typer.Option(help="Shards of ilora scenes render. Default: its samples.")] = None,
    steps: Annotated[int | None, typer.Option(help="Updates. Default: 20,000.", min=1)] = None,
    device: Device = None,
) -> None:
    """Train the encoder that finds a StyleGAN's styles of real pictures, and put it beside it; goes on where it was."""
    from ilora.zoo.inverter import train_beside

    typer.echo(train_beside(folder, pictures=pictures, steps=steps, device=device))


@scenes.command("render")
def scenes_render(
    count: Annotated[int, typer.Option(help="Scenes.", min=1)],
    out: Out,
    size: Annotated[int, typer.Option(help="Side of the pictures [px].", min=8)] = 128,
    seed: Annotated[int, typer.Option(help="Number of the first scene in its split.", min=0)] = 0,
    split: Annotated[str, typer.Option(help="pictures, labelled, validation or test.")] = "pictures",
    format_: Annotated[str, typer.Option("--format", help="webdataset, or folder (with all maps).")] = "webdataset",
    products: Annotated[str, typer.Option(help="picture, or all (with all maps).")] = "picture",
    samples: Annotated[int | None, typer.Option(help="Paths a pixel. Default: 4, with maps 64.", min=1)] = None,
    workers: Annotated[int | None, typer.Option(help="Processes. Default: one a core.", min=1)] = None,
) -> None:
    """Render rooms: pictures and captions, or all four intrinsics too; goes on where it stopped."""
    from ilora.data.scenes import write

    options = {"size": size, "seed": seed, "split": split, "format": format_, "products": products}
    done = write(out, count, **options, samples=samples, workers=workers)
    typer.echo(f"{done.rendered} rendered, {done.skipped} there already, {len(done.failed)} failed: {out}")
    raise typer.Exit(1 if done.failed else 0)


@datasets.command("list")
def data_list(
    name: Annotated[str | None, typer.Argument(help="Data set to describe. Default: all, a line each.")] = None,
) -> None:
    """Published data sets that can be read as NAME:PATH; with a name, its units, axes, splits, licence and layout."""
    from ilora.data import benchmarks

    for line in benchmarks.listing() if name is None else benchmarks.described(name):
        typer.echo(line)


@datasets.command("check")
def data_check(
    name: Annotated[str, typer.Argument(help="Data set, as in 'ilora data list'.")],
    path: Annotated[Path, typer.Argument(help="Folder that holds it.")],
    intrinsic: Annotated[str | None, typer.Option(help="Default: every one that the data set has.")] = None,
    split: Annotated[str | None, typer.Option(help="train, validation, test or all. Default: each.")] = None,
) -> None:
    """What is missing of a published data set, file by file; exit code 1 if anything is."""
    from ilora.data import benchmarks

    found = benchmarks.check(name, path, intrinsic=intrinsic, split=split)
    for line in (line for one in found for line in one.lines):
        typer.echo(line)
    raise typer.Exit(1 if any(one.problem or one.missing for one in found) else 0)


@datasets.command("stats")
def data_stats(
    data: Annotated[str, typer.Argument(help="'rooms', NAME:PATH of a published data set, or a folder.")],
    intrinsic: Annotated[str | None, typer.Option(help="Default: every one that the data has.")] = None,
    split: Annotated[str | None, typer.Option(help="train, validation, test or all. Default: all.")] = None,
    images: Annotated[int, typer.Option(help="Examples to look at, evenly spread.", min=1)] = 100,
    out: Annotated[Path | None, typer.Option(help="Write a sheet of pictures and maps here, a PNG.")] = None,
) -> None:
    """Ranges, units and valid share of maps, and whether floors point up; with --out, a sheet to see it on."""
    from ilora.data.survey import survey

    for line in (
        line for one in survey(data, intrinsic=intrinsic, split=split, count=images, out=out) for line in one.lines
    ):
        typer.echo(line)

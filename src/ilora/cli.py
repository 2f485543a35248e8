"""The command line: words in, one function call each, one line out when something is wrong. No logic of its own."""

import os
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from ilora.config import FitConfig, parse

app = typer.Typer(
    help="What does an image generator know about the scene it paints?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
zoo = typer.Typer(help="The embedded generators: cards, and how each was trained.", no_args_is_help=True)
scenes = typer.Typer(help="Rendered rooms with exact ground truth.", no_args_is_help=True)
app.add_typer(zoo, name="zoo")
app.add_typer(scenes, name="scenes")

Out = Annotated[Path, typer.Option(help="Folder to write to.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps. Default: the accelerator, if there is one.")]
OnProblem = Annotated[str, typer.Option(help="What to do with faulty examples: refuse or skip.")]
GENERATOR = "Embedded name, diffusers folder, hub id, checkpoint file, or MODULE:CLASS of your own."


@app.command()
def demo(out: Out = Path("demo")) -> None:
    """Fit, predict and evaluate in three minutes on two cores; ends with a table, a picture and a page."""
    from ilora.demo import demo as run

    run(out)


@app.command()
def fit(
    out: Annotated[Path, typer.Option(help="Run folder to make, or with --resume to go on with.")],
    generator: Annotated[str | None, typer.Option(help=GENERATOR)] = None,
    data: Annotated[str | None, typer.Option(help="'rooms', or a folder with images/, normals/, depths/, ...")] = None,
    intrinsic: Annotated[str | None, typer.Option(help="normal, depth, albedo or shading.")] = None,
    rank: Annotated[int | None, typer.Option(help="Of the low-rank update.")] = None,
    labels: Annotated[int | None, typer.Option(help="Labelled images to use. Default: all.")] = None,
    seed: Annotated[int | None, typer.Option(help="Draws the labels, the order, the start.")] = None,
    preset: Annotated[str | None, typer.Option(help="default, paper or augmented.")] = None,
    method: Annotated[str | None, typer.Option(help="lora, dora, rslora; controls: full, scratch.")] = None,
    targets: Annotated[str | None, typer.Option(help="Where adapters go: a name, or a regular expression.")] = None,
    steps: Annotated[int | None, typer.Option(help="Updates.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Any other field, as NAME=VALUE; repeatable.")] = None,
    random_weights: Annotated[bool, typer.Option("--random-weights", help="Control: on random weights.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run in --out stopped.")] = False,
    on_problem: OnProblem = "refuse",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved plan and stop.")] = False,
    device: Device = None,
) -> None:
    """Teach a small adapter to make the generator paint one intrinsic."""
    from ilora.fit import configure
    from ilora.fit import fit as run

    words = {
        "generator": generator,
        "data": data,
        "intrinsic": intrinsic,
        "rank": rank,
        "labels": labels,
        "seed": seed,
        "preset": preset,
        "method": method,
        "targets": targets,
        "steps": steps,
        "random_weights": random_weights or None,
    }
    given = {name: value for name, value in words.items() if value is not None} | parse(set_ or [])
    config = configure(out, given, resume=resume)
    try:
        run(config, out, resume=resume, on_problem=on_problem, dry_run=dry_run, device=device)
    except KeyboardInterrupt as stopped:
        typer.echo(f"{stopped or 'stopped'}: ilora fit --resume --out {out}", err=True)
        raise typer.Exit(130) from stopped


@app.command()
def predict(
    photos: Annotated[list[str], typer.Argument(help="Photos, folders or patterns.", metavar="PHOTO...")],
    adapter: Annotated[list[Path], typer.Option(help="Run folder, folder of runs, or adapter file; repeatable.")],
    out: Out = Path("maps"),
    intrinsic: Annotated[str, typer.Option(help="'all' that there are adapters for, or names, comma between.")] = "all",
    format_: Annotated[str, typer.Option("--format", help="npy, npz, png16, exr, preview.")] = "npy,preview",
    generator: Annotated[str | None, typer.Option(help="Base, if no adapter names it or it is MODULE:CLASS.")] = None,
    batch: Annotated[int, typer.Option(help="Photos of one size painted together.", min=1)] = 8,
    mirror: Annotated[bool, typer.Option("--mirror", help="Average with the mirrored photo's map.")] = False,
    ensemble: Annotated[int | None, typer.Option(help="Samples of which mean and uncertainty are made.", min=1)] = None,
    sampling: Annotated[list[str] | None, typer.Option(help="passes=10, solver=ddim, seed=1, ...; repeatable.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Leave out photos that are done.")] = False,
    device: Device = None,
) -> None:
    """Maps of photos at their own size, with units and axes in the metadata."""
    from ilora.predict import Predictor
    from ilora.predict import predict as run

    chosen = {} if intrinsic == "all" else {"intrinsics": intrinsic.split(",")}
    predictor = Predictor(adapter, generator=generator, device=device, mirror=mirror, **chosen)
    predictor.sampling(**parse(sampling or []) | ({} if ensemble is None else {"ensemble": ensemble}))
    result = run(photos, predictor, out, formats=format_.split(","), batch=batch, resume=resume)
    typer.echo(f"{len(result.files)} predicted, {len(result.skipped)} left out, {len(result.failed)} failed: {out}")
    raise typer.Exit(1 if result.failed else 0)


@app.command()
def evaluate(
    adapter: Annotated[Path, typer.Option(help="Run folder.")],
    data: Annotated[str, typer.Option(help="'rooms', or a folder.")] = "rooms",
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    json: Annotated[Path | None, typer.Option(help="Write all numbers here, and a CSV beside it.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with tables and pictures here.")] = None,
    controls: Annotated[bool, typer.Option(help="Fit the same on random weights first, where it is missing.")] = True,
    images: Annotated[int | None, typer.Option(help="The first so many; default: all.", min=1)] = None,
    generator: Annotated[str | None, typer.Option(help="Base, where it is MODULE:CLASS.")] = None,
    mirror: Annotated[bool, typer.Option("--mirror", help="Average with the mirrored picture's map.")] = False,
    on_problem: OnProblem = "refuse",
    device: Device = None,
) -> None:
    """Errors beside the codec's ceiling, the untouched generator, the mean map and the fit on random weights."""
    from ilora.evaluate import EvaluateConfig, show
    from ilora.evaluate import evaluate as run

    given = {"generator": generator, "mirror": mirror, "on_problem": on_problem, "device": device}
    config = EvaluateConfig(controls=controls, images=images, **given)
    show(run(adapter, data, split=split, json=json, html=html, config=config))


@app.command()
def compare(
    rows: Annotated[list[Path], typer.Argument(help="What 'ilora evaluate --json' wrote.", metavar="ROWS...")],
) -> None:
    """Evaluations on the same images side by side, seeds pooled, with the ratios between them."""
    from ilora.evaluate import Evaluation, show_groups
    from ilora.evaluate import compare as run

    show_groups(run([Evaluation.read(path) for path in rows]))


@app.command()
def sample(
    out: Out,
    generator: Annotated[str, typer.Option(help=GENERATOR)] = FitConfig.generator,
    count: Annotated[int, typer.Option(help="Pictures.", min=1)] = 16,
    prompt: Annotated[str, typer.Option(help="What to paint; families without text ignore it.")] = "",
    seed: Annotated[int, typer.Option(help="Of the first picture; the next ones count up.", min=0)] = 0,
    device: Device = None,
) -> None:
    """Paint pictures, and a sheet of them."""
    from ilora.sample import sample as run

    typer.echo(run(generator, out, count=count, prompt=prompt, seed=seed, device=device)[-1])


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Run folder or adapter file.")],
    to: Annotated[str, typer.Option(help="diffusers, peft or kohya.")],
    out: Out,
) -> None:
    """Write an adapter in the form that another program reads."""
    from ilora.adapters.formats import export as write

    typer.echo(write(run, to, out))


@app.command("check-generator")
def check_generator(
    generator: Annotated[str, typer.Argument(help=GENERATOR)],
    intrinsic: Annotated[str, typer.Option(help="'all', or names, comma between.")] = "all",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps.")] = "cpu",
) -> None:
    """Run the contract of all generators on one, and say in words what is missing."""
    from ilora.generators.contract import examine
    from ilora.intrinsics import NAMES

    failed = 0
    for finding in examine(generator, intrinsics=NAMES if intrinsic == "all" else intrinsic.split(","), device=device):
        typer.echo(finding)
        failed += finding.passed is False
    typer.echo(f"{generator} {f'breaks the contract ({failed} found)' if failed else 'keeps the contract'}")
    raise typer.Exit(1 if failed else 0)


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


def main() -> None:
    """Run a command; what the user can mend is one red line and exit 2 (``ILORA_DEBUG=1`` shows the traceback)."""
    warnings.formatwarning = lambda message, *_, **__: f"ilora: {message}\n"
    try:
        app()
    except (ValueError, ImportError, OSError, FloatingPointError) as error:
        if os.environ.get("ILORA_DEBUG") == "1":
            raise
        typer.secho(f"ilora: {error}", fg=typer.colors.RED, err=True)
        sys.exit(2)

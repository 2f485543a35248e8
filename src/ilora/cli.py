"""The command line: words in, one function call each, one line out when something is wrong. No logic of its own."""

import os
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from ilora import commands
from ilora.config import FitConfig, parse

app = typer.Typer(
    help="What does an image generator know about the scene it paints?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(commands.zoo, name="zoo")
app.add_typer(commands.scenes, name="scenes")
app.add_typer(commands.datasets, name="data")

Out = Annotated[Path, typer.Option(help="Folder to write to.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps. Default: the accelerator, if there is one.")]
OnProblem = Annotated[str, typer.Option(help="What to do with faulty examples: refuse or skip.")]
Ray = Annotated[str | None, typer.Option(help="Work on Ray: auto, or the address of a cluster.")]
Workers = Annotated[int, typer.Option(help="Processes on Ray, each with its own copy of the model.", min=1)]
Column = Annotated[str | None, typer.Option(help="Of pictures in Parquet files, with --ray. Default: the only one.")]
GENERATOR = "Embedded name, diffusers folder, hub id, checkpoint file, or MODULE:CLASS of your own."
EMBEDDED = "the embedded; with --quick rooms-nano, unless the study compares generators."


@app.command()
def demo(out: Out = Path("demo")) -> None:
    """Fit, predict and evaluate in three minutes on two cores; ends with a table, a picture and a page."""
    from ilora.demo import demo as run

    run(out)


@app.command()
def fit(
    out: Annotated[Path, typer.Option(help="Run folder to make, or with --resume to go on with.")],
    generator: Annotated[str | None, typer.Option(help=GENERATOR)] = None,
    data: Annotated[str | None, typer.Option(help="'rooms', NAME:PATH, a folder, or a tar or Parquet file.")] = None,
    intrinsic: Annotated[str | None, typer.Option(help="One; names, comma between; or 'all': one adapter.")] = None,
    rank: Annotated[int | None, typer.Option(help="Of the low-rank update.")] = None,
    labels: Annotated[int | None, typer.Option(help="Labelled images to use. Default: all.")] = None,
    seed: Annotated[int | None, typer.Option(help="Draws the labels, the order, the start.")] = None,
    preset: Annotated[str | None, typer.Option(help="default, paper or augmented.")] = None,
    method: Annotated[str | None, typer.Option(help="lora, dora, rslora, eva; full, scratch, ridge, head.")] = None,
    readout: Annotated[str | None, typer.Option(help="paper, native, flow_clean, auto. Default: the preset's.")] = None,
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
    from ilora.fit import fit as run
    from ilora.plan import after, configure

    words = {
        "generator": generator,
        "data": data,
        "intrinsic": intrinsic,
        "rank": rank,
        "labels": labels,
        "seed": seed,
        "preset": preset,
        "method": method,
        "readout": readout,
        "targets": targets,
        "steps": steps,
        "random_weights": random_weights or None,
    }
    given = {name: value for name, value in words.items() if value is not None} | parse(set_ or [])
    config = configure(out, given, resume=resume)
    try:
        run(config, out, resume=resume, on_problem=on_problem, dry_run=dry_run, device=device)
    except KeyboardInterrupt as stopped:
        typer.echo(after(stopped, out), err=True)
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
    resume: Annotated[bool, typer.Option("--resume", help="Leave out what is done; on Ray always.")] = False,
    ray: Ray = None,
    workers: Workers = 1,
    column: Column = None,
    device: Device = None,
) -> None:
    """Maps of photos at their own size, with units and axes in the metadata; on Ray also of tar and Parquet files."""
    chosen = {} if intrinsic == "all" else {"intrinsics": tuple(intrinsic.split(","))}
    formats, options = tuple(format_.split(",")), {"generator": generator, "device": device, "mirror": mirror} | chosen
    drawn = parse(sampling or []) | ({} if ensemble is None else {"ensemble": ensemble})
    if ray is not None:
        from ilora.scale.bulk import Crew, PredictJob, told
        from ilora.scale.bulk import predict as spread

        job = PredictJob(tuple(map(str, adapter)), formats, batch=batch, sampling=drawn, **options)
        typer.echo(told(found := spread(photos, job, out, crew=Crew(ray, workers, column=column))))
        raise typer.Exit(1 if found.failed else 0)
    from ilora.predict import Predictor
    from ilora.predict import predict as run

    predictor = Predictor(adapter, **options)
    predictor.sampling(**drawn)
    result = run(photos, predictor, out, formats=formats, batch=batch, resume=resume)
    typer.echo(f"{len(result.files)} predicted, {len(result.skipped)} left out, {len(result.failed)} failed: {out}")
    raise typer.Exit(1 if result.failed else 0)


@app.command()
def evaluate(
    adapter: Annotated[Path, typer.Option(help="Run folder, or a folder of them.")],
    data: Annotated[str, typer.Option(help="'rooms', NAME:PATH, a folder, or a tar or Parquet file.")] = "rooms",
    intrinsic: Annotated[str, typer.Option(help="'all' that the run paints, or names, comma between.")] = "all",
    protocol: Annotated[str, typer.Option(help="How the maps are judged; 'ilora protocols' lists them.")] = "rooms",
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    json: Annotated[Path | None, typer.Option(help="Write all numbers here, a .json, and a CSV beside it.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with tables and pictures here.")] = None,
    table: Annotated[Path | None, typer.Option(help="Write the table here: .md or .tex.")] = None,
    controls: Annotated[bool, typer.Option(help="Fit the same on random weights first, where it is missing.")] = True,
    images: Annotated[int | None, typer.Option(help="The first so many; default: all.", min=1)] = None,
    generator: Annotated[str | None, typer.Option(help="Base, where it is MODULE:CLASS.")] = None,
    mirror: Annotated[bool, typer.Option("--mirror", help="Average with the mirrored picture's map.")] = False,
    on_problem: OnProblem = "refuse",
    ray: Ray = None,
    workers: Workers = 1,
    device: Device = None,
) -> None:
    """Errors beside the codec's ceiling, the untouched generator, the mean map and the fit on random weights."""
    from ilora.evaluate import EvaluateConfig, evaluate_each, show

    given = {"generator": generator, "mirror": mirror, "on_problem": on_problem, "device": device}
    config = EvaluateConfig(controls=controls, images=images, **given)
    asked = {"protocol": protocol, "split": split, "json": json, "html": html, "table": table, "config": config}
    if ray is not None:
        from ilora.scale.bulk import Crew
        from ilora.scale.judging import evaluate as spread

        asked |= {"run": spread, "crew": Crew(ray, workers)}
    for found in evaluate_each(adapter, data, intrinsics=intrinsic, **asked):
        show(found)


@app.command()
def compare(
    rows: Annotated[list[Path], typer.Argument(help="What 'ilora evaluate --json' wrote.", metavar="ROWS...")],
    html: Annotated[Path | None, typer.Option(help="Write a page here.")] = None,
    table: Annotated[Path | None, typer.Option(help="Write the table here: .md or .tex.")] = None,
) -> None:
    """Evaluations on the same images side by side, seeds pooled, and which differences are more than chance."""
    from ilora import comparison, report, tables
    from ilora.evaluation import Evaluation

    groups = comparison.compare([Evaluation.read(path) for path in rows])
    comparison.show(groups)
    if html is not None:
        typer.echo(report.write(html, comparison.page(groups)))
    if table is not None:
        typer.echo(tables.save(table, comparison.table(groups)))


@app.command()
def protocols(
    name: Annotated[str | None, typer.Argument(help="One of them, to be told in full.")] = None,
) -> None:
    """The evaluation protocols: all in a line each, or one in words."""
    from ilora.protocols import protocol
    from ilora.protocols.words import description, listing

    typer.echo(listing() if name is None else description(protocol(name)))


@app.command()
def study(
    name: Annotated[str, typer.Argument(help="intrinsics, families, rank, labels, quality, controls, layers, recipe.")],
    more: Annotated[list[str] | None, typer.Argument(help="More of --checkpoints.", metavar="[PATH]...")] = None,
    *,
    out: Annotated[Path, typer.Option(help="Folder of points and pages; studies that share it share points.")],
    generator: Annotated[list[str] | None, typer.Option(help=f"{GENERATOR} Repeatable; default: {EMBEDDED}")] = None,
    intrinsics: Annotated[list[str] | None, typer.Option(help="Names, comma between; default: the study's.")] = None,
    checkpoints: Annotated[list[str] | None, typer.Option(help="For quality: generators, or trainings.")] = None,
    data: Annotated[str, typer.Option(help="'rooms', or a folder.")] = "rooms",
    seeds: Annotated[int | None, typer.Option(help="Fits of each point. Default: 3, with --quick 1.", min=1)] = None,
    images: Annotated[int | None, typer.Option(help="Test pictures. Default: all, with --quick 32.", min=1)] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A small grid of short fits.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the grid and its cost, and stop.")] = False,
    ray: Annotated[str | None, typer.Option(help="Make the points on Ray: auto, or an address.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Field of every fit, NAME=VALUE; repeatable.")] = None,
    device: Device = None,
) -> None:
    """Answer a question by a grid of fits with their controls; stopped at any moment and run again, it goes on."""
    from ilora.studies.plan import StudyConfig
    from ilora.studies.study import study as run

    config = StudyConfig(
        generators=tuple(generator or ()),
        intrinsics=tuple(word for words in intrinsics or () for word in words.split(",")),
        checkpoints=(*(checkpoints or ()), *(more or ())),
        data=data,
        seeds=seeds,
        images=images,
        quick=quick,
        changes=parse(set_ or []),
        device=device,
    )
    try:
        run(name, out, config=config, ray=ray, dry_run=dry_run)
    except KeyboardInterrupt as stopped:
        typer.echo("stopped; the same command goes on from here", err=True)
        raise typer.Exit(130) from stopped


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
def label(
    out: Out,
    teacher: Annotated[str, typer.Option(help="Names, folders, hub ids, run folders or MODULE:CLASS, comma between.")],
    photos: Annotated[list[str] | None, typer.Argument(help="Photos, folders or patterns.", metavar="PHOTO...")] = None,
    generator: Annotated[str | None, typer.Option(help="Label what this one paints, with its codes.")] = None,
    count: Annotated[int, typer.Option(help="Pictures to paint.", min=1)] = 250,
    prompt: Annotated[str, typer.Option(help="What to paint; families without text ignore it.")] = "",
    seed: Annotated[int, typer.Option(help="Of the first picture; the next ones count up.", min=0)] = 0,
    fov: Annotated[float | None, typer.Option(help="Degrees along the longer side; for TEACHER+normals.")] = None,
    side: Annotated[int, typer.Option(help="Longest side of a photo in the folder [px].", min=1)] = 1024,
    batch: Annotated[int, typer.Option(help="Pictures of one size labelled together.", min=1)] = 8,
    ray: Ray = None,
    workers: Workers = 1,
    column: Column = None,
    device: Device = None,
) -> None:
    """Labels from off-the-shelf predictors: a folder for --data; goes on where it stopped."""
    from ilora.label import Draw
    from ilora.label import label as run
    from ilora.teacher import teacher as find

    if (generator is None) == (not photos):
        raise ValueError(f"expected photos or --generator, got {'neither' if generator is None else 'both'}; name one")
    source = Draw(generator, count, prompt, seed) if generator else photos
    if ray is not None:
        from ilora.scale.bulk import Crew, LabelJob, told
        from ilora.scale.bulk import label as spread

        job = LabelJob(tuple(teacher.split(",")), fov, side, batch, device)
        typer.echo(told(found := spread(source, job, out, crew=Crew(ray, workers, column=column))))
        raise typer.Exit(1 if found.failed else 0)
    teachers = [find(name, device=device, fov=fov) for name in teacher.split(",")]
    result = run(source, teachers, out, batch=batch, side=side, device=device)
    typer.echo(f"{len(result.names)} labelled, {len(result.skipped)} there already, {len(result.failed)} failed: {out}")
    raise typer.Exit(1 if result.failed else 0)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Run folder or adapter file.")],
    to: Annotated[str, typer.Option(help="diffusers, peft or kohya.")],
    out: Out,
) -> None:
    """Write an adapter in the form that another program reads."""
    from ilora.adapters.formats import export as write

    typer.echo(write(run, to, out))


@app.command()
def convert(
    checkpoint: Annotated[Path, typer.Argument(help="Another program's file, such as a StyleGAN's .pkl or .pt.")],
    out: Out,
) -> None:
    """Read a checkpoint once, as data, and write it as a folder of safetensors and JSON that --generator takes."""
    from ilora.generators import convert as run

    typer.echo(run(checkpoint, out))


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

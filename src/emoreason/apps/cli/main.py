"""The command line, one short function per command. Results go to stdout, progress and notes to stderr.

Exit codes: 0 ok, 1 error, 2 wrong usage, 3 finished but some items failed. Commands import heavy packages themselves,
so that --help stays fast.
"""

import io
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emoreason import __version__
from emoreason.apps.cli import models as cli_models
from emoreason.apps.cli.finetune import finetune
from emoreason.apps.cli.options import (  # fmt: skip
    Decide,
    Descriptors,
    Detector,
    Device,
    ExplainerModel,
    ExplainerName,
    Labels,
    LabelSet,
    Model,
    NoDetect,
    Point,
    Projection,
    PromptFile,
    Quantize,
    Threshold,
    chosen_labels,
    examples,
    load_reasoner,
    note,
)
from emoreason.apps.cli.serve import chat, serve
from emoreason.core.errors import EmoreasonError, UsageError

if TYPE_CHECKING:
    from emoreason.reasoner import Reasoner


app = typer.Typer(
    name="emoreason",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Reads facial expressions and says why: calibrated labels with evidence you can check.\n\n"
    "Answers describe the expression a face shows, never what a person feels.",
)
data_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Check, convert and describe data sets.")
app.add_typer(data_app, name="data")
app.add_typer(cli_models.app, name="models")

FAILED_ITEMS = 3
STOPPED = 130  # the exit code that shells use for Ctrl-C
# The base class of typer's errors. Typer ships its own copy of click, so click.ClickException would not match.
CommandLineError: Any = typer.BadParameter.__mro__[2]


def _version(show: bool) -> None:
    if show:
        print(f"emoreason {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command(
    epilog=examples(
        "explain example",
        "explain photo.jpg --save annotated.png",
        "explain photo.jpg --labels bored,engaged,confused --json",
        "explain crop.png --no-detect --threshold 0.6",
        "explain photo.jpg --decide both",
        "explain photo.jpg --explainer http://127.0.0.1:8000/v1 --explainer-model qwen",
    )
)
def explain(
    picture: Annotated[str, typer.Argument(help="A path, a URL, or 'example' for the built-in picture.")],
    labels: Labels = None,
    label_set: LabelSet = None,
    no_detect: NoDetect = False,
    json: Annotated[bool, typer.Option("--json", help="Print the analysis as JSON.")] = False,
    save: Annotated[Path | None, typer.Option("--save", help="Save the picture with boxes, labels and bars.")] = None,
    model: Model = "mini",
    device: Device = "auto",
    detector: Detector = "auto",
    prompts: PromptFile = None,
    descriptors: Descriptors = False,
    projection: Projection = None,
    operating_point: Point = "",
    threshold: Threshold = None,
    explainer: ExplainerName = "auto",
    explainer_model: ExplainerModel = "",
    decide: Decide = "evidence",
    quantize: Quantize = None,
) -> None:
    """Read the faces in a picture and say why. Prints labels with confidence, the evidence, and an explanation."""
    from dataclasses import replace

    from emoreason.core.device import wait_asleep
    from emoreason.core.resources import resource
    from emoreason.explain.explanation import check_decide
    from emoreason.media.images import open_picture

    label_names = chosen_labels(labels, label_set)
    check_decide(decide)
    if save is not None and save.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise UsageError(f"--save {save}: expected a name that ends in .png, .jpg or .webp")
    if save is not None and not save.parent.is_dir():
        raise UsageError(f"--save {save}: there is no folder {save.parent}; create it with mkdir -p {save.parent}")
    source = str(resource("examples/astronaut.jpg")) if picture == "example" else picture
    opened = open_picture(source)  # before torch is imported, so that a wrong path is answered at once
    wait_asleep()
    reasoner = load_reasoner(model, device, detector, prompts, descriptors, projection, operating_point, threshold,
                     explainer, explainer_model, quantize)  # fmt: skip
    analysis = reasoner.analyze(opened, label_names, detect=not no_detect, decide=decide)
    if picture == "example":  # show this name instead of the path inside the package
        analysis = replace(analysis, picture=replace(analysis.picture, source=picture))
    if save is not None:
        try:
            analysis.draw(save)
        except OSError as error:
            raise EmoreasonError(f"--save {save}: cannot write the file: {error.strerror or error}") from None
        note(f"saved: {save}")
    if json:
        print(analysis.to_json())
    else:
        from emoreason.apps.cli.tables import print_analysis

        print_analysis(analysis)


@app.command(
    epilog=examples(
        "label photos/ -o rows.jsonl",
        "label photos/ -o rows.jsonl --resume",
        "label a.jpg b.jpg --labels bored,engaged",
        'label "photos/**/*.png" --label-set ekman6 -o rows.parquet',
        "label crops/ --no-detect -o rows.csv --export imagefolder sorted/",
        "label - < list.txt",
    )
)
def label(
    paths: Annotated[
        list[str],
        typer.Argument(help="Pictures, folders (searched recursively), globs or URLs; - reads a list from stdin."),
    ],
    labels: Labels = None,
    label_set: LabelSet = None,
    no_detect: NoDetect = False,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="rows.jsonl, rows.csv or rows.parquet. Default: JSONL on stdout."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an existing output file.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output file.")] = False,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Faces per batch.")] = 128,
    threshold: Threshold = None,
    frames: Annotated[bool, typer.Option("--frames", help="Read every frame of animated GIF and WebP files.")] = False,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Label at most this many pictures.")] = None,
    shuffle_seed: Annotated[
        int | None, typer.Option("--shuffle-seed", help="Shuffle the pictures with this seed.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="Threads that open pictures and find faces. Default: one per core."),
    ] = None,
    export: Annotated[
        tuple[str, Path] | None,
        typer.Option("--export", help="imagefolder DIR: also save the face crops as an ImageFolder."),
    ] = None,
    model: Model = "mini",
    device: Device = "auto",
    detector: Detector = "auto",
    prompts: PromptFile = None,
    descriptors: Descriptors = False,
    projection: Projection = None,
    operating_point: Point = "",
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Also write an explanation for every face. Takes seconds per face."),
    ] = False,
    explainer: ExplainerName = "auto",
    explainer_model: ExplainerModel = "",
    decide: Decide = "evidence",
    quantize: Quantize = None,
) -> None:
    """Label many pictures, one row per face. A file that cannot be read becomes a row with status=error."""
    from emoreason.apps.cli.progress import labeling_bar
    from emoreason.core.device import cores
    from emoreason.core.image_folder import ImageFolder, check_folder
    from emoreason.core.row_files import RowFile, check_target
    from emoreason.label import LabelJob, made_with, remaining, row_columns, run

    if resume and overwrite:
        raise UsageError("--resume continues and --overwrite starts over: use one of them")
    if resume and output is None:
        raise UsageError("--resume needs the file to continue: add -o rows.jsonl")
    if export is not None and export[0] != "imagefolder":
        raise UsageError(f"--export {export[0]}: expected --export imagefolder DIR")
    if output is not None:
        check_target(output, resume, overwrite)
    if export is not None:
        check_folder(export[1], resume, tuple(paths))
    label_names = chosen_labels(labels, label_set)
    job = LabelJob(tuple(paths), label_names, not no_detect, frames, batch_size, workers or cores(), limit,
              shuffle_seed, explain=explain, decide=decide)  # fmt: skip
    sources = job.sources()
    if not sources:
        raise EmoreasonError(f"no pictures found in {', '.join(paths)}: looked for jpg, png, webp, gif, bmp, tiff, …")
    if decide != "evidence" and not explain:
        raise UsageError(f"--decide {decide} needs the language model: add --explain")
    reasoner = load_reasoner(model, device, detector, prompts, descriptors, projection, operating_point, threshold,
                     explainer if explain else "none", explainer_model, quantize)  # fmt: skip
    if explain and reasoner.explainer is None:
        raise UsageError(f"{model} has no language model: name one with --explainer, or leave out --explain")
    options = made_with(reasoner, job, export=export is not None)
    rows = RowFile(output, row_columns(reasoner, job), made_with=options, resume=resume, overwrite=overwrite)
    folder = ImageFolder(export[1], f"model:{reasoner.name}@{reasoner.revision}") if export else None
    with labeling_bar(len(sources), len(sources) - len(remaining(rows, sources))) as progress:
        try:
            outcome = run(reasoner, job, rows, sources, export=folder, progress=progress)
        except KeyboardInterrupt:
            note(f"stopped; the rows in {output} are safe, continue with --resume" if output else "stopped")
            raise typer.Exit(STOPPED) from None
    note(str(outcome))
    if outcome.failed:
        raise typer.Exit(FAILED_ITEMS)


@app.command(
    "eval",
    epilog=examples(
        "eval ferplus --data ferplus/ --split validation -o results/",
        "eval ferplus --predictions results/predictions.jsonl -o results/",
        "eval explanations --data ferplus/validation.parquet --limit 1000 -o battery/",
        "eval explanations --texts expllm.json -o theirs/",
        "eval robustness --data ferplus/validation.parquet --limit 500 -o robustness/",
    ),
)
def evaluate(
    benchmark: Annotated[
        str,
        typer.Argument(
            help="ferplus, fer2013, rafdb, affectnet7, affectnet8, sfew, folder, your own YAML, explanations, "
            "or robustness."
        ),
    ],
    data: Annotated[str | None, typer.Option("--data", help="The data set: a folder or a file.")] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="train, validation or test. Default: the benchmark's own.")
    ] = None,
    protocol: Annotated[
        str | None, typer.Option("--protocol", help="FER+: majority, argmax8, strict or probability.")
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the report.")] = Path("results"),
    predictions: Annotated[
        Path | None, typer.Option("--predictions", help="Score an existing predictions.jsonl again, without a model.")
    ] = None,
    labels: Labels = None,
    detect: Annotated[
        bool, typer.Option("--detect/--no-detect", help="Find the faces first, or treat the pictures as face crops.")
    ] = False,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Use a random sample of this size.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the sample and of the confidence intervals.")] = 0,
    format: Annotated[str | None, typer.Option("--format", help="Layout of the data, if it is not detected.")] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1)] = 128,
    model: Model = "mini",
    device: Device = "auto",
    detector: Detector = "auto",
    prompts: PromptFile = None,
    descriptors: Descriptors = False,
    projection: Projection = None,
    operating_point: Point = "",
    explainer: ExplainerName = "auto",
    explainer_model: ExplainerModel = "",
    decide: Decide = "evidence",
    quantize: Quantize = None,
    texts: Annotated[Path | None, typer.Option("--texts", help="explanations: score texts of another system.")] = None,
    parts: Annotated[
        str | None,
        typer.Option(
            "--parts", help="explanations, robustness: run only these parts, such as form,evidence or blur,mask."
        ),
    ] = None,
    nonfaces: Annotated[
        Path | None,
        typer.Option("--nonfaces", help="robustness: a folder of more pictures without a human face, such as animals."),
    ] = None,
    free: Annotated[bool, typer.Option("--free", help="explanations: also score the texts before any check.")] = False,
    most: Annotated[
        int | None, typer.Option("--most", min=1, help="explanations: at most this many faces per probe.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="explanations: start over instead of continuing.")
    ] = False,
) -> None:
    """Evaluate a model on a benchmark. Writes report.json, report.md, plots, and predictions you can score again.

    `explanations` tests the texts: whether they match the evidence, and whether they change when the evidence does.
    `robustness` damages and covers the faces, and shows the model pictures without a face.
    """
    if benchmark == "explanations":
        reasoner = None
        if texts is None or data is not None:
            reasoner = load_reasoner(model, device, detector, prompts, descriptors, projection, operating_point, None,
                             explainer, explainer_model, quantize)  # fmt: skip
        _battery(reasoner, data, split, format, texts, output, command=_command(), limit=limit, seed=seed,
                 labels=chosen_labels(labels, None), decide=decide, free=free, probe_limit=most, overwrite=overwrite,
                 parts=parts.split(",") if parts else None, protocol=protocol or "majority",
                 batch_size=min(batch_size, 16),
                 options={"quantize": quantize,
                          "operating_point": reasoner.reader.operating_point if reasoner else ""})  # fmt: skip
        return
    if benchmark == "robustness":
        if data is None:
            raise UsageError("--data is missing: emoreason eval robustness --data DIR")
        reasoner = load_reasoner(model, device, detector, prompts, descriptors, projection, operating_point, None)
        _robustness(reasoner, data, split, format, output, labels=chosen_labels(labels, None), nonfaces=nonfaces,
                    protocol=protocol or "majority", parts=parts.split(",") if parts else None, detect=detect,
                    limit=limit, seed=seed, batch_size=batch_size,
                    settings=_settings(reasoner, detect, projection))  # fmt: skip
        return
    from emoreason.evaluate import load_benchmark, rescore, run

    definition = load_benchmark(benchmark)
    if predictions is not None:
        report = rescore(predictions, definition, protocol, out=output)
    else:
        if data is None:
            raise UsageError(
                f"--data is missing: emoreason eval {benchmark} --data DIR (or --predictions FILE to score again)"
            )
        from emoreason.apps.cli.progress import counting_bar
        from emoreason.evaluate.predict import predictor

        reasoner = load_reasoner(model, device, detector, prompts, descriptors, projection, operating_point, None)
        settings = _settings(reasoner, detect, projection)
        with counting_bar("evaluating") as count:
            report = run(
                definition,
                data,
                predictor(reasoner, detect, batch_size, count),
                output,
                split=split,
                protocol=protocol,
                labels=chosen_labels(labels, None),
                format=format,
                limit=limit,
                seed=seed,
                model=reasoner.name,
                model_hash=reasoner.revision,
                settings=settings,
                command=_command(),
            )
    from emoreason.apps.cli.tables import print_report

    print_report(report, output)
    if report["n_failed"]:
        raise typer.Exit(FAILED_ITEMS)


app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    epilog=examples(
        "finetune --data my_faces/ --out runs/mine",
        "finetune --data faces.csv --labels bored,engaged,confused --no-detect --out runs/mine",
        "finetune finetune/lora.yaml --data my_faces/ --tower.epochs 4",
        "finetune finetune/mini-encoder.yaml --smoke",
    ),
)(finetune)
app.command(
    epilog=examples("chat", "chat --port 7900", "chat --host 0.0.0.0 --auth me:secret", "chat --model mini --model DIR")
)(chat)
app.command(
    epilog=examples("serve", "serve --ui", "serve --host 0.0.0.0 --api-key SECRET", "serve --port 0 --allow-urls")
)(serve)


@app.command(epilog=examples("env"))
def env() -> None:
    """Show versions, device and number type, for bug reports."""
    from emoreason.core.environment import describe

    report = describe()
    print(report.text)
    if report.problems:
        for problem in report.problems:
            note(problem)
        raise typer.Exit(1)


@data_app.command("check", epilog=examples("data check my_faces/", "data check my_faces/ --labels happy,sad --json"))
def data_check(
    source: Annotated[str, typer.Argument(help="A data set: folder, csv, jsonl, parquet, or hub:OWNER/NAME.")],
    format: Annotated[str, typer.Option("--format", help="Layout of the data, if it is not detected.")] = "auto",
    split: Annotated[str | None, typer.Option("--split")] = None,
    labels: Labels = None,
    label_set: LabelSet = None,
    exact: Annotated[bool, typer.Option("--exact", help="Find exact copies only, not near copies.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Check a data set: unknown labels, missing files, copies, leaks.

    Counts the labels, finds missing and broken files, copies, and faces that leak between splits. Exit code 3 if there
    are any problems.
    """
    from emoreason.apps.cli.progress import counting_bar
    from emoreason.data.check import SIMILARITY, check

    with counting_bar("checking") as count:
        report = check(source, format=format, split=split, labels=chosen_labels(labels, label_set),
                       similarity=None if exact else SIMILARITY, progress=count)  # fmt: skip
    if json:
        import json as json_module

        print(json_module.dumps(report.to_dict(), indent=2, ensure_ascii=False))
    else:
        from emoreason.apps.cli.tables import stdout
        from emoreason.data.check_report import render

        stdout().print(render(report))
    if not report.ok:
        raise typer.Exit(FAILED_ITEMS)


@data_app.command(
    "convert", epilog=examples("data convert my_faces/ faces.parquet", "data convert my_faces/ faces/ --to jsonl")
)
def data_convert(
    source: Annotated[str, typer.Argument(help="A data set, in any layout that emoreason reads.")],
    output: Annotated[Path, typer.Argument(help="A .parquet file, or a folder.")],
    format: Annotated[str, typer.Option("--format", help="Layout of the data, if it is not detected.")] = "auto",
    to: Annotated[str, typer.Option("--to", help="parquet, or jsonl with the pictures beside it.")] = "parquet",
    split: Annotated[str | None, typer.Option("--split")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite")] = False,
) -> None:
    """Convert a data set to Parquet or JSONL.

    emoreason, datasets and pandas can read the result. Exit code 3 if rows were skipped.
    """
    from emoreason.apps.cli.progress import counting_bar
    from emoreason.data.convert import convert

    with counting_bar("converting") as count:
        result = convert(source, output, format=format, to=to, split=split, overwrite=overwrite, progress=count)
    print(f"{result.written} rows -> {result.output}")
    for row in result.skipped[:5]:
        note(f"skipped: {row.id}: {row.why}")
    if len(result.skipped) > 5:
        note(f"… and {len(result.skipped) - 5} more; find out why with emoreason data check")
    if result.skipped:
        raise typer.Exit(FAILED_ITEMS)


@data_app.command(
    "describe",
    epilog=examples(
        "data describe ferplus/train.parquet -o described/ --without ferplus/validation.parquet --holdout 1500",
        "data describe my_faces/ -o described/ --turns 2",
    ),
)
def data_describe(
    source: Annotated[str, typer.Argument(help="A data set of face crops, in any layout that emoreason reads.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for NAME.jsonl, holdout.jsonl and images/.")],
    format: Annotated[str, typer.Option("--format", help="Layout of the data, if it is not detected.")] = "auto",
    split: Annotated[str | None, typer.Option("--split")] = None,
    name: Annotated[str, typer.Option("--name", help="Name of the JSONL file.")] = "train",
    model: Model = "mini",
    turns: Annotated[int, typer.Option("--turns", help="Follow-up questions per face.")] = 1,
    vary: Annotated[float, typer.Option("--vary", help="Share of faces whose label distribution is altered.")] = 0.5,
    flip: Annotated[float, typer.Option("--flip", help="Share of faces with one movement altered.")] = 0.15,
    without: Annotated[
        str | None, typer.Option("--without", help="Leave out faces that also appear in this data set.")
    ] = None,
    holdout: Annotated[int, typer.Option("--holdout", help="Put this many faces into holdout.jsonl.")] = 0,
    limit: Annotated[int | None, typer.Option("--limit", help="Use only the first N faces.")] = None,
    seed: Annotated[int, typer.Option("--seed")] = 7,
    teacher: Annotated[
        str | None,
        typer.Option(
            "--teacher", help="Model that rewrites the texts: an http(s)://HOST/v1 endpoint, or a local model."
        ),
    ] = None,
    teacher_model: Annotated[
        str, typer.Option("--teacher-model", help="The model's name, if --teacher is an endpoint.")
    ] = "",
) -> None:
    """Write training texts for a data set of faces.

    Each text has observations without a label, the verdict, the interpretation, and follow-up questions.
    """
    from itertools import islice

    from emoreason.apps.cli.progress import counting_bar
    from emoreason.data import read
    from emoreason.data.check import copies_in
    from emoreason.train.text.describe import Plan, describe

    rewrite = None
    if teacher is not None:
        from emoreason.train.text.teacher import load_teacher

        rewrite = load_teacher(teacher, teacher_model)
    reasoner = load_reasoner(model, "auto", "auto", None, False, None, "", None)
    left_out = frozenset(copies_in(read(source, format=format, split=split), read(without))) if without else frozenset()
    with counting_bar("describing") as count:
        samples = islice(read(source, format=format, split=split), limit)
        result = describe(samples, reasoner, output, name=name, plan=Plan(turns, vary, flip, seed), holdout=holdout,
                        without=left_out, rewrite=rewrite, progress=count)  # fmt: skip
    for file, n in result.written.items():
        print(f"{n} conversations -> {file}")
    for why, n in result.dropped.items():
        if n:
            note(f"left out, {why.replace('_', ' ')}: {n} faces")
    if rewrite is not None:
        note(rewrite.report())


def _battery(reasoner: "Reasoner | None", data: str | None, split: str | None, format: str | None,
             texts: Path | None, output: Path, **settings: Any) -> None:  # fmt: skip
    from emoreason.apps.cli.progress import counting_bar
    from emoreason.data import read
    from emoreason.evaluate.explanations.run import run_explanation_benchmark

    samples = read(data, format=format or "auto", split=split) if data is not None else None
    explainer = reasoner.explainer if reasoner is not None and texts is None else None
    with counting_bar("explaining") as count:
        run_explanation_benchmark(
            samples, reasoner, explainer, output, texts=texts, data=data, progress=lambda part, n: count(n), **settings
        )
    from emoreason.apps.cli.tables import stdout

    stdout().print((output / "report.md").read_text(encoding="utf-8"), soft_wrap=True)


def _settings(reasoner: "Reasoner", detect: bool, projection: Path | None) -> dict[str, Any]:
    """The settings that a report notes."""
    return {"operating_point": reasoner.reader.operating_point, "detect": detect, "prompt_id": reasoner.prompt_id,
            "projection": str(projection) if projection else None, "dtype": reasoner.compute.dtype}  # fmt: skip


def _robustness(reasoner: "Reasoner", data: str, split: str | None, format: str | None, output: Path,
                **settings: Any) -> None:  # fmt: skip
    from emoreason.apps.cli.progress import counting_bar
    from emoreason.apps.cli.tables import print_report
    from emoreason.data import read
    from emoreason.evaluate.robustness.run import run_robustness

    with counting_bar("evaluating") as count:
        report = run_robustness(read(data, format=format or "auto", split=split), reasoner, output, data=data,
                                split=split, command=_command(), progress=count, **settings)  # fmt: skip
    print_report(report, output)
    if report["n_unreadable"] or any(row["n_unreadable"] for row in report["nonfaces"]):
        raise typer.Exit(FAILED_ITEMS)


def _command() -> str:
    import shlex

    return shlex.join(["emoreason", *sys.argv[1:]])


def execute(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code. Errors print as one line, without a stack trace."""
    warnings.filterwarnings("ignore", "Image size")  # Pillow's; we report pictures that are too large ourselves
    warnings.filterwarnings("ignore", category=FutureWarning)  # meant for the developers of libraries
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # UTF-8 in any locale, and odd file names cannot crash it
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        code = app(arguments, prog_name="emoreason", standalone_mode=False)
        sys.stdout.flush()
        return code or 0
    except EmoreasonError as error:
        note(f"error: {' '.join(str(error).split())}")
        return 2 if isinstance(error, UsageError) else 1
    except CommandLineError as error:
        text = error.format_message()
        note(text if "\n" in text else f"error: {text} (see {_help_of(error)})")
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return STOPPED
    except BrokenPipeError:
        return _ignore_closed_pipe()
    except SystemExit as end:
        if not isinstance(end.__context__, BrokenPipeError):  # click turns a closed pipe into SystemExit
            raise
        return _ignore_closed_pipe()


def _help_of(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    return f"{context.command_path if context else 'emoreason'} --help"


def _ignore_closed_pipe() -> int:
    """Exit quietly when the reader has left, as in `emoreason label … | head`. Drops output that is still buffered."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 0


def main() -> None:
    sys.exit(execute())


if __name__ == "__main__":
    main()

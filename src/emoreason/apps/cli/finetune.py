"""`emoreason finetune`: train on your own faces and labels, or run a recipe."""

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from emoreason.apps.cli.options import Labels, note
from emoreason.core.errors import UsageError

TABLES = (".csv", ".tsv", ".jsonl", ".parquet")


def finetune(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Argument(
            help="A recipe. Default with --data: finetune/head.yaml. Override any field with --section.field VALUE."
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", help="Labeled faces: folder, csv, jsonl, parquet or hub:OWNER/NAME."),
    ] = None,
    out: Annotated[str | None, typer.Option("--out", help="Folder of the run. Use it later with --model DIR.")] = None,
    labels: Labels = None,
    detect: Annotated[
        bool | None,
        typer.Option(
            "--detect/--no-detect", help="Find and crop the faces first, or not. Default: decided from the pictures."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="The encoder: mini, or an open_clip name such as ViT-L-14/openai."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a run that was stopped.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing run.")] = False,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Test a recipe in about a minute: synthetic faces, tiny models, no output.")
    ] = False,
) -> None:
    """Fine-tune on your own labels and faces, or run a recipe."""
    from emoreason.train.finetune_config import FinetuneConfig
    from emoreason.train.recipes.config import load_config, override, parse_overrides

    fields = list(context.args)
    if config is not None and str(config).startswith("--"):  # no recipe: typer parsed the first field as the recipe
        fields, config = [str(config), *fields], None
    if config is not None and data is None and (config.is_dir() or config.suffix.lower() in TABLES):
        raise UsageError(f"{config} is a data set, not a recipe: emoreason finetune --data {shlex.quote(str(config))}")
    if config is None and data is None and not smoke:
        raise UsageError(
            "no data and no recipe: try emoreason finetune --data my_faces/ --out runs/mine, or name a recipe"
        )
    crops = None if detect is None else "no" if detect else "yes"
    options = {"data.source": data, "data.labels": labels, "data.crops": crops, "out": out, "model": model}
    overrides = parse_overrides(fields) | {key: value for key, value in options.items() if value is not None}
    settings: Any = FinetuneConfig() if config is None else load_config(config)
    override(settings, overrides)
    if smoke:
        _smoke_test(settings)
    elif isinstance(settings, FinetuneConfig):
        _finetune(settings, resume, overwrite)
    elif resume or overwrite:
        raise UsageError(
            "--resume and --overwrite need --data: a recipe continues by itself, or starts anew with another --out"
        )
    else:
        _train_recipe(settings)


def _smoke_test(config: Any) -> None:
    """Run the recipe on synthetic data in a temporary folder."""
    import tempfile

    from emoreason.train.recipes.smoke_faces import smoke_encoder, smoke_projection, smoke_tune

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if config.kind == "head":
            from emoreason.train.finetune import finetune

            finetune(smoke_tune(config, folder), notify=note)
        elif config.kind == "explainer":
            from emoreason.train.recipes.smoke_texts import smoke_config
            from emoreason.train.text.explainer import train_explainer

            train_explainer(smoke_config(config, folder))
        elif config.kind in ("eyes", "readout"):
            from emoreason.train.recipes.mini_eyes import train_eyes
            from emoreason.train.recipes.mini_readout import fit_readout
            from emoreason.train.recipes.smoke_faces import smoke_eyes, smoke_readout

            if config.kind == "eyes":
                train_eyes(smoke_eyes(config, folder))
            else:
                fit_readout(smoke_readout(config, folder))
        elif config.kind == "exp-clip":
            from emoreason.train.recipes.exp_clip import train_exp_clip

            train_exp_clip(smoke_projection(config, folder), note, folder / "cache")
        else:
            from emoreason.train.recipes.mini_encoder import train_encoder

            train_encoder(smoke_encoder(config, folder))
    note("the recipe works; its test output was deleted")


def _train_recipe(config: Any) -> None:
    if config.kind == "exp-clip":
        from emoreason.train.recipes.exp_clip import train_exp_clip

        projection = train_exp_clip(config, note)
        note(f"use it: emoreason explain photo.jpg --model {config.model} --projection {projection}")
    elif config.kind == "explainer":
        from emoreason.train.text.explainer import train_explainer

        note(f"trained: {train_explainer(config)}")
    elif config.kind == "eyes":
        from emoreason.train.recipes.mini_eyes import train_eyes

        note(
            f"trained: {train_eyes(config)}; now fit what is read off it: emoreason finetune finetune/mini-readout.yaml"
        )
    elif config.kind == "readout":
        from emoreason.train.recipes.mini_readout import fit_readout

        note(f"fitted: {fit_readout(config)}")
    else:
        from emoreason.train.recipes.mini_encoder import train_encoder

        note(f"trained: {train_encoder(config)}")


def _finetune(config: Any, resume: bool, overwrite: bool) -> None:
    from emoreason.apps.cli.progress import counting_bar
    from emoreason.apps.cli.tables import stdout
    from emoreason.train.finetune import finetune
    from emoreason.train.run_card import tables

    try:
        run = finetune(config, resume=resume, overwrite=overwrite, notify=note, count=counting_bar)
    except KeyboardInterrupt:
        note("stopped. Run the same command with --resume to continue, or with --overwrite to start over")
        raise
    if not run.metrics:  # under `accelerate launch`, only the main process has metrics
        return
    stdout().print(tables(run.metrics), soft_wrap=True)
    print(f"\nNext: emoreason explain photo.jpg --model {shlex.quote(str(run.folder))}")

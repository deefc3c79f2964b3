"""`emoreason finetune`: your own labels from your own faces, or a recipe."""

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
            help="A recipe such as finetune/head.yaml, the default with --data. Any field: --section.field VALUE."
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", help="Faces and what they show: folder, csv, jsonl, parquet, hub:OWNER/NAME."),
    ] = None,
    out: Annotated[str | None, typer.Option("--out", help="The run folder, which is a model: --model DIR.")] = None,
    labels: Labels = None,
    detect: Annotated[
        bool | None, typer.Option("--detect/--no-detect", help="Cut the faces out, or not. Default: as they look.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="The encoder: mini, or such as ViT-L-14/openai.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Train again over a run that exists.")] = False,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Try a recipe in a minute: made-up faces, tiny models, nothing kept.")
    ] = False,
) -> None:
    """Learn your own labels from your own faces (--data), or train a model by a recipe."""
    from emoreason.train.finetune_config import FinetuneConfig
    from emoreason.train.recipes.config import load_config, override, parse_overrides

    fields = list(context.args)
    if config is not None and str(config).startswith("--"):  # no recipe: typer took the first field for one
        fields, config = [str(config), *fields], None
    if config is not None and data is None and (config.is_dir() or config.suffix.lower() in TABLES):
        raise UsageError(f"{config} is data and no recipe: emoreason finetune --data {shlex.quote(str(config))}")
    if config is None and data is None and not smoke:
        raise UsageError("nothing to learn from: emoreason finetune --data my_faces/ --out runs/mine, or a recipe")
    crops = None if detect is None else "no" if detect else "yes"
    named = {"data.source": data, "data.labels": labels, "data.crops": crops, "out": out, "model": model}
    given = parse_overrides(fields) | {key: value for key, value in named.items() if value is not None}
    chosen: Any = FinetuneConfig() if config is None else load_config(config)
    override(chosen, given)
    if smoke:
        _try(chosen)
    elif isinstance(chosen, FinetuneConfig):
        _tune(chosen, resume, overwrite)
    elif resume or overwrite:
        raise UsageError("--resume and --overwrite are for --data: a recipe goes on by itself, or takes a new --out")
    else:
        _run(chosen)


def _try(config: Any) -> None:
    """The recipe on made-up data, in a folder that is thrown away."""
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
        elif config.kind == "exp-clip":
            from emoreason.train.recipes.exp_clip import train_exp_clip

            train_exp_clip(smoke_projection(config, folder), note, folder / "cache")
        else:
            from emoreason.train.recipes.mini_encoder import train_encoder

            train_encoder(smoke_encoder(config, folder))
    note("the recipe runs; what it made of noise was thrown away")


def _run(config: Any) -> None:
    if config.kind == "exp-clip":
        from emoreason.train.recipes.exp_clip import train_exp_clip

        made = train_exp_clip(config, note)
        note(f"use it: emoreason explain photo.jpg --model {config.model} --projection {made}")
    elif config.kind == "explainer":
        from emoreason.train.text.explainer import train_explainer

        note(f"trained: {train_explainer(config)}")
    else:
        from emoreason.train.recipes.mini_encoder import train_encoder

        note(f"trained: {train_encoder(config)}")


def _tune(config: Any, resume: bool, overwrite: bool) -> None:
    from emoreason.apps.cli.progress import counting_bar
    from emoreason.apps.cli.tables import stdout
    from emoreason.train.finetune import finetune
    from emoreason.train.run_card import tables

    try:
        done = finetune(config, resume=resume, overwrite=overwrite, notify=note, count=counting_bar)
    except KeyboardInterrupt:
        note("stopped. The same command with --resume goes on from there, with --overwrite it begins anew")
        raise
    if not done.metrics:  # another process of `accelerate launch` tells
        return
    stdout().print(tables(done.metrics), soft_wrap=True)
    print(f"\nNext: emoreason explain photo.jpg --model {shlex.quote(str(done.folder))}")

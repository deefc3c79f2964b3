"""`emoreason models …`: what happens to a model after it was trained."""

from pathlib import Path
from typing import Annotated

import typer

from emoreason.apps.cli.options import Point, examples, note

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Models by name, and what becomes of a run.")

Name = Annotated[str, typer.Argument(help="A model of `emoreason models list`, or a folder.")]
Run = Annotated[str, typer.Argument(help="A run folder, an explainer's folder, or a model's name.")]


@app.command("list", epilog=examples("models list"))
def models_list() -> None:
    """Models of this package and those that were added, with what they were measured at."""
    from emoreason.apps.cli.tables import print_models

    print_models()


@app.command("show", epilog=examples("models show mini"))
def models_show(name: Name = "mini") -> None:
    """The card of a model: data, protocol, figures, limits, licence, usage policy."""
    from emoreason.models.registry import card

    print(card(name))


@app.command("verify", epilog=examples("models verify mini"))
def models_verify(name: Name = "mini") -> None:
    """Compare a model's files with the checksums that were written with them."""
    from emoreason.models.files import verify
    from emoreason.models.registry import require

    files = verify(require(name).folder)
    for file, digest in files.items():
        print(f"{digest}  {file}")
    print(f"{name}: weights are whole, {len(files)} file{'' if len(files) == 1 else 's'} compared")


@app.command("add", epilog=examples("models add runs/mine", "models add runs/mine --name faces-2 --overwrite"))
def models_add(
    folder: Annotated[Path, typer.Argument(help="A run of `emoreason finetune`, a merged model, or hub:OWNER/NAME.")],
    name: Annotated[str, typer.Option("--name", help="How it is to be called. Default: as the run.")] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model of this name.")] = False,
) -> None:
    """Check a run and keep a copy under a name that every verb takes: --model NAME."""
    from emoreason.models.registry import add

    target = add(folder, name, overwrite)
    note(f"kept in {target}")
    print(f"Next: emoreason explain photo.jpg --model {target.name}")


@app.command("remove", epilog=examples("models remove mine", "models remove mine --yes"))
def models_remove(
    name: Annotated[str, typer.Argument(help="A model that was added.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a model that was added. The run that it came from stays."""
    from emoreason.models.registry import remove

    if not yes:
        typer.confirm(f"Delete the added model {name}?", abort=True, err=True)
    note(f"deleted: {remove(name)}")


@app.command(
    "merge", epilog=examples("models merge runs/mine -o mine-whole", "models merge runs/mine -o out --dtype bfloat16")
)
def models_merge(
    run: Run,
    output: Annotated[Path, typer.Option("-o", "--output", help="A new folder.")],
    dtype: Annotated[
        str, typer.Option("--dtype", help="Of the language model: float32, bfloat16 or float16.")
    ] = "float32",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a folder that was merged before.")] = False,
) -> None:
    """One folder that needs no other: LoRA merged into the weights, the base model inside."""
    from emoreason.convert.merge import merge

    note(f"merged: {merge(run, output, dtype, overwrite, note)}")


@app.command(
    "export",
    epilog=examples(
        "models export runs/mine --to onnx -o mine.onnx",
        "models export runs/mine --to peft -o mine-adapter",
        "models export runs/mine --to transformers -o mine-language --dtype bfloat16",
        "models export runs/mine --to gguf -o mine.gguf --dtype q8_0",
    ),
)
def models_export(
    run: Run,
    to: Annotated[str, typer.Option("--to", help="onnx (labels), or peft, transformers, gguf (words).")],
    output: Annotated[Path, typer.Option("-o", "--output", help="A file for onnx and gguf, else a new folder.")],
    dtype: Annotated[
        str, typer.Option("--dtype", help="float32, bfloat16, float16; gguf: q8_0 too. Default: gguf float16.")
    ] = "",
    operating_point: Point = "accurate",
    base: Annotated[str, typer.Option("--base", help="peft: the base model's name to write into the adapter.")] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what was exported before.")] = False,
) -> None:
    """A model for other programs: ONNX of encoder and head, or its language model."""
    from emoreason.convert.export import export

    done = export(run, to, output, dtype=dtype, point=operating_point, base=base, overwrite=overwrite, notify=note)
    note(f"exported: {done}")


@app.command(
    "push",
    epilog=examples(
        "models push runs/mine --repo me/my-faces --private",
        "models push mine --repo me/my-faces --license cc-by-nc-4.0 --yes",
    ),
)
def models_push(
    run: Run,
    repo: Annotated[str, typer.Option("--repo", help="OWNER/NAME on the Hugging Face Hub.")],
    private: Annotated[bool, typer.Option("--private", help="A new repository is seen by you alone.")] = False,
    licence: Annotated[str, typer.Option("--license", help="Of the weights, as the Hub names licences.")] = "other",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Upload a model to the Hub, after saying what goes: no pictures, no checkpoints, no names of pictures."""
    import sys
    from collections.abc import Sequence

    from emoreason.core.errors import UsageError
    from emoreason.models.hub import push

    def agreed(files: Sequence[tuple[str, int]]) -> bool:
        for name, size in files:
            note(f"{size / 1e3:10.1f} kB  {name}")
        total = sum(size for _, size in files) / 1e6
        seen = "private where it is new" if private else "public: everybody can read it"
        note(f"{len(files)} files, {total:.1f} MB, to {repo} ({seen}). No pictures, no checkpoints, no split.csv.")
        if yes:
            return True
        if not sys.stdin.isatty():
            raise UsageError("nothing was uploaded: --yes uploads without asking")
        return typer.confirm("Upload?", err=True)

    address = push(run, repo, private, agreed, licence)
    if address is None:
        note("nothing was uploaded")
        return
    note(f"uploaded: {address}")
    print(f"Next: emoreason explain photo.jpg --model hub:{repo}")

"""`emoreason models …`: list, show, verify, add, remove, merge, export and upload models."""

from pathlib import Path
from typing import Annotated

import typer

from emoreason.apps.cli.options import Point, examples, note

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="List, add, merge, export and upload models.")

Name = Annotated[str, typer.Argument(help="A model from `emoreason models list`, or a folder.")]
Run = Annotated[str, typer.Argument(help="A run folder, an explainer folder, or a model's name.")]


@app.command("list", epilog=examples("models list"))
def models_list() -> None:
    """List the built-in and added models with their scores."""
    from emoreason.apps.cli.tables import print_models

    print_models()


@app.command("show", epilog=examples("models show mini"))
def models_show(name: Name = "mini") -> None:
    """Show a model's card. It has data, protocol, scores, limits, licence and usage policy."""
    from emoreason.models.registry import card

    print(card(name))


@app.command("verify", epilog=examples("models verify mini"))
def models_verify(name: Name = "mini") -> None:
    """Check a model's files against their checksums."""
    from emoreason.models.files import verify
    from emoreason.models.registry import require

    files = verify(require(name).folder)
    for file, digest in files.items():
        print(f"{digest}  {file}")
    print(f"{name}: weights are whole, {len(files)} file{'' if len(files) == 1 else 's'} compared")


@app.command("add", epilog=examples("models add runs/mine", "models add runs/mine --name faces-2 --overwrite"))
def models_add(
    folder: Annotated[Path, typer.Argument(help="A run of `emoreason finetune`, a merged model, or hub:OWNER/NAME.")],
    name: Annotated[str, typer.Option("--name", help="Name of the model. Default: the name of the run.")] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing model of this name.")] = False,
) -> None:
    """Store a run under a name. Checks the run and keeps a copy that every command can use with --model NAME."""
    from emoreason.models.registry import add

    target = add(folder, name, overwrite)
    note(f"added: {target}")
    print(f"Next: emoreason explain photo.jpg --model {target.name}")


@app.command("remove", epilog=examples("models remove mine", "models remove mine --yes"))
def models_remove(
    name: Annotated[str, typer.Argument(help="An added model.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
) -> None:
    """Delete an added model. Keeps the run it came from."""
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
        str, typer.Option("--dtype", help="Number type of the language model: float32, bfloat16 or float16.")
    ] = "float32",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier merge.")] = False,
) -> None:
    """Merge a run into one self-contained folder. Merges LoRA into the weights and includes the base model."""
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
    to: Annotated[str, typer.Option("--to", help="onnx (labels), or peft, transformers, gguf (explanations).")],
    output: Annotated[Path, typer.Option("-o", "--output", help="A file for onnx and gguf, otherwise a new folder.")],
    dtype: Annotated[
        str,
        typer.Option("--dtype", help="float32, bfloat16 or float16; gguf also takes q8_0. Default for gguf: float16."),
    ] = "",
    operating_point: Point = "",
    base: Annotated[str, typer.Option("--base", help="peft: base model to name in the adapter.")] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export.")] = False,
) -> None:
    """Export a model for other programs. Writes the encoder and head as ONNX, or the language model."""
    from emoreason.convert.export import export

    target = export(run, to, output, dtype=dtype, point=operating_point, base=base, overwrite=overwrite, notify=note)
    note(f"exported: {target}")


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
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    licence: Annotated[
        str, typer.Option("--license", help="Licence of the weights, by the Hub's name for it.")
    ] = "other",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
) -> None:
    """Upload a model to the Hub. Lists the files first; never uploads pictures, their names, or checkpoints."""
    import sys
    from collections.abc import Sequence

    from emoreason.core.errors import UsageError
    from emoreason.models.hub import push

    def confirm(files: Sequence[tuple[str, int]]) -> bool:
        for name, size in files:
            note(f"{size / 1e3:10.1f} kB  {name}")
        total = sum(size for _, size in files) / 1e6
        visibility = "private, if it is new" if private else "public: everybody can read it"
        note(
            f"{len(files)} files, {total:.1f} MB, to {repo} ({visibility}). No pictures, no checkpoints, no split.csv."
        )
        if yes:
            return True
        if not sys.stdin.isatty():
            raise UsageError("nothing was uploaded: add --yes to upload without asking")
        return typer.confirm("Upload?", err=True)

    address = push(run, repo, private, confirm, licence)
    if address is None:
        note("nothing was uploaded")
        return
    note(f"uploaded: {address}")
    print(f"Next: emoreason explain photo.jpg --model hub:{repo}")

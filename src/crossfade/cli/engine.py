"""`crossfade engine`: the engine behind Prisma Client Python: install it, find it, try it."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(help="Prisma's engine: install it, find it, try it.", no_args_is_help=True)


@app.command()
def install() -> None:
    """Make the engine ready to start; the first call may download what it needs."""
    from crossfade import engine

    choice = engine.install(_announce)
    typer.echo(f"{choice.kind} engine {choice.version}")
    typer.echo(str(choice.path))


@app.command()
def which() -> None:
    """Show which engine would run and what it is made of. Installs nothing; exit code 1 if a part is missing."""
    from crossfade import engine

    found = engine.which()
    for part in found:
        typer.echo(f"{part.what:8} {part.kind:8} {part.version:12} {part.path or 'missing'}")
    if any(part.path is None for part in found):
        typer.echo("run `crossfade engine install`", err=True)
        raise typer.Exit(1)


@app.command()
def check(
    dsn: Annotated[
        str, typer.Option(envvar="CROSSFADE_LEGACY_DSN", help="The database to try it on.", show_envvar=True)
    ],
) -> None:
    """Start the engine on a database and have it answer a query and a transaction. Writes nothing."""
    import asyncio

    from crossfade import engine
    from crossfade.dsn import Dsn
    from crossfade.stores import check_reachable

    database = Dsn.parse(dsn)
    # A database that cannot be reached is better explained by this than by the engine.
    asyncio.run(check_reachable(database, "the database to try the engine on"))
    checks = engine.check(database.prisma_url(), _announce)
    for one in checks:
        typer.echo(f"{'ok' if one.ok else 'FAILED':7} {one.name:12} {one.detail}")
    if not all(one.ok for one in checks):
        raise typer.Exit(1)


def _announce(line: str) -> None:
    typer.echo(line, err=True)

"""`crossfade flags`: flag files and a flag server: check, compare, send, take over."""

from __future__ import annotations

import asyncio
import json as json_format
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from crossfade.cli.options import DEFAULT_FLAGS, FlagsOption, SchemaOption, models_of_schema
from crossfade.errors import ConfigurationError, FlagDriftError, FlagError, UnknownModelError
from crossfade.stages import Stage

if TYPE_CHECKING:
    from crossfade.flags.admin import UnleashAdmin
    from crossfade.flags.drift import Difference
    from crossfade.flags.feature import Feature
    from crossfade.flags.flag import Flag

app = typer.Typer(
    help="Flag files, and the Unleash server that CROSSFADE_UNLEASH_URL and CROSSFADE_UNLEASH_ADMIN_TOKEN name.",
    no_args_is_help=True,
)

ModelsArgument: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(help="Models, as in schema.prisma; all by default.", show_default=False),
]
EnvironmentOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="The server's environment; CROSSFADE_UNLEASH_ENVIRONMENT, or development.", show_default=False
    ),
]
ProjectOption: TypeAlias = Annotated[
    str | None,
    typer.Option(help="The server's project; CROSSFADE_UNLEASH_PROJECT, or default.", show_default=False),
]
DryRunOption: TypeAlias = Annotated[
    bool, typer.Option("--dry-run", help="Show what would be changed, and change nothing.")
]


@app.command()
def check(flags: FlagsOption = DEFAULT_FLAGS, schema: SchemaOption = None) -> None:
    """Read every flag file, and whether what they ask for goes together. Leaves with 1 if it does not."""
    from crossfade.cli.requests import check_of
    from crossfade.flags.files import load_flags

    found, problems = load_flags(flags, models_of_schema(schema, flags))
    if problems:
        raise ExceptionGroup("flags", problems)
    refusals = check_of(schema, flags)(found)
    for refusal in refusals:
        typer.echo(f"crossfade: {refusal.text}", err=True)
    if refusals:
        raise typer.Exit(1)
    written = [flag for flag in found.values() if flag.source]
    without = sorted(model for model, flag in found.items() if not flag.source)
    typer.echo(f"{len(written)} flag files are fine, and what they ask for goes together")
    if without:
        typer.echo(f"without a file, so at off: {', '.join(without)}")


@app.command()
def diff(
    models: ModelsArgument = None,
    flags: FlagsOption = DEFAULT_FLAGS,
    schema: SchemaOption = None,
    environment: EnvironmentOption = None,
    project: ProjectOption = None,
    json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
) -> None:
    """Show how files and server differ, and who has changed what. Leaves with 1 if they do."""
    from crossfade.flags.drift import Standing

    at = _Files(flags, schema, models)
    _, found = asyncio.run(_compared(at, _admin(environment, project)))
    if json:
        typer.echo(json_format.dumps([_row(one) for one in found], indent=2))
    else:
        for one in found:
            _print(one, "the server has", "the file has")
    if any(one.standing is not Standing.SAME for one in found):
        raise typer.Exit(1)


@app.command()
def push(
    models: ModelsArgument = None,
    flags: FlagsOption = DEFAULT_FLAGS,
    schema: SchemaOption = None,
    environment: EnvironmentOption = None,
    project: ProjectOption = None,
    dry_run: DryRunOption = False,
    ours: Annotated[
        bool, typer.Option("--ours", help="Overwrite what somebody else has changed on the server since.")
    ] = False,
) -> None:
    """Make the server ask for what the files do: features, strategies, variants, tags, environments.

    What it changes is shown first. A value that somebody else has changed on the server is never overwritten unasked.
    """
    asyncio.run(
        _push(_Files(flags, schema, models), _admin(environment, project), dry_run=dry_run, ours=ours)
    )


@app.command()
def pull(
    models: ModelsArgument = None,
    flags: FlagsOption = DEFAULT_FLAGS,
    schema: SchemaOption = None,
    environment: EnvironmentOption = None,
    project: ProjectOption = None,
    dry_run: DryRunOption = False,
    theirs: Annotated[
        bool, typer.Option("--theirs", help="Overwrite what has been changed in a file and not pushed yet.")
    ] = False,
) -> None:
    """Take over into the files what has been changed on the server. Comments and layout of the files stay.

    Leaves with 1 if the server has something that a file cannot say.
    """
    asyncio.run(
        _pull(_Files(flags, schema, models), _admin(environment, project), dry_run=dry_run, theirs=theirs)
    )


@app.command()
def export(
    flags: FlagsOption = DEFAULT_FLAGS,
    schema: SchemaOption = None,
    environment: EnvironmentOption = None,
    project: ProjectOption = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Write it here; standard output by default.", metavar="FILE", show_default=False),
    ] = None,
) -> None:
    """Write what the files ask for in Unleash's import format. No server is needed."""
    from crossfade.flags import feature
    from crossfade.settings import Settings

    settings = Settings.from_environment()
    at = _Files(flags, schema, None)
    document = feature.export(
        at.written.values(),
        environment or settings.unleash_environment,
        project or settings.unleash_project,
    )
    _write(json_format.dumps(document, indent=2, ensure_ascii=False), output)


@app.command()
def schema(
    output: Annotated[
        Path | None,
        typer.Option(help="Write it here; standard output by default.", metavar="FILE", show_default=False),
    ] = None,
) -> None:
    """Write the JSON schema of a flag file, for editors."""
    from crossfade.flags.json_schema import flag_schema

    _write(json_format.dumps(flag_schema(), indent=2, ensure_ascii=False), output)


class _Files:
    """The flag files that a command is about; every file must be usable."""

    def __init__(self, directory: Path, schema: Path | None, models: Sequence[str] | None) -> None:
        from crossfade.cli.requests import check_of
        from crossfade.flags.files import read_flags

        self.directory = directory
        self.check = check_of(schema, directory)
        self.known = models_of_schema(schema, directory)
        flags = read_flags(directory, self.known)
        for name in models or ():
            if name not in (self.known or flags):
                raise UnknownModelError(name, sorted(self.known or flags))
        self._asked = frozenset(models or ())
        self.flags: Mapping[str, Flag] = flags

    @property
    def written(self) -> dict[str, Flag]:
        """Those flags that have a file."""
        return {model: flag for model, flag in self.flags.items() if flag.source}

    def concerns(self, model: str) -> bool:
        """Whether the command is about a model."""
        return not self._asked or model in self._asked


def _admin(environment: str | None, project: str | None) -> UnleashAdmin:
    from crossfade.flags.admin import UnleashAdmin
    from crossfade.settings import Settings

    settings = Settings.from_environment()
    url, token = settings.unleash_url, settings.unleash_admin_token
    if url is None or token is None:
        missing = [
            name
            for name, value in (("CROSSFADE_UNLEASH_URL", url), ("CROSSFADE_UNLEASH_ADMIN_TOKEN", token))
            if value is None
        ]
        raise ConfigurationError(f"this works on an Unleash server: set {' and '.join(missing)}")
    return UnleashAdmin(
        url,
        token,
        project=project or settings.unleash_project,
        environment=environment or settings.unleash_environment,
    )


async def _compared(files: _Files, admin: UnleashAdmin) -> tuple[dict[str, Feature], list[Difference]]:
    async with admin:
        return await _read(files, admin)


async def _read(files: _Files, admin: UnleashAdmin) -> tuple[dict[str, Feature], list[Difference]]:
    from crossfade.flags.drift import compare

    features = await admin.read()
    return features, [one for one in compare(files.flags, features) if files.concerns(one.model)]


async def _push(files: _Files, admin: UnleashAdmin, *, dry_run: bool, ours: bool) -> None:
    from crossfade.flags.drift import Standing
    from crossfade.flags.feature import owner_tag

    async with admin:
        features, found = await _read(files, admin)
        work = [one for one in found if one.standing is not Standing.UNKNOWN]
        for one in work:
            owner_tag(files.flags[one.model])  # said before anything is written
        for one in found:
            if one.standing is not Standing.SAME:
                _print(one, "the server has", "the file has")
        drifted = {one.model: one.what for one in work if one.standing is Standing.DRIFTED}
        if drifted and not ours:
            raise FlagDriftError(admin.where, drifted)
        differing = [one for one in work if one.standing is not Standing.SAME]
        _check_together(files, features, [one.model for one in differing])
        if dry_run:
            typer.echo(
                f"{_count(differing)} would be pushed to {admin.where}, environment {admin.environment}"
            )
            return
        for one in work:
            feature = features.get(one.model)
            if one.standing is not Standing.SAME:
                await admin.push(files.flags[one.model], feature)
                typer.echo(f"{one.model}: pushed")
            elif feature is not None and feature.has_drifted:
                await admin.note(feature)
        typer.echo(f"{_count(differing)} pushed to {admin.where}, environment {admin.environment}")


def _check_together(files: _Files, features: Mapping[str, Feature], models: Sequence[str]) -> None:
    """Return if what the server would ask for can be met together; what lies on the way back is only told.

    Raises:
        RequestError: it cannot.
    """
    from crossfade.cli.requests import judge
    from crossfade.errors import RequestError

    # A feature that is not there, or says nothing that can be read, asks for nothing.
    there = {name: one.flag for name, one in features.items() if one.flag is not None and not one.is_bare}
    before = {model: there.get(model, replace(flag, stage=Stage.OFF)) for model, flag in files.flags.items()}
    after = before | {model: files.flags[model] for model in models}
    refused, told = judge(files.check, before, after)
    for refusal in told:
        typer.echo(f"it will be held as long as this is asked for: {refusal.text}")
    if refused:
        asked = sorted({model for refusal in refused for model in refusal.models} & set(models))
        raise RequestError(asked, "what the files say", [refusal.text for refusal in refused])


async def _pull(files: _Files, admin: UnleashAdmin, *, dry_run: bool, theirs: bool) -> None:
    from crossfade.flags.drift import Standing
    from crossfade.flags.files import write_flag

    taken = {Standing.DRIFTED, Standing.UNKNOWN} | ({Standing.AHEAD} if theirs else set())
    untold: list[str] = []
    pulled = 0
    async with admin:
        features, found = await _read(files, admin)
        for one in found:
            if one.standing is Standing.SAME or one.standing is Standing.NEW:
                continue
            _print(one, "the server has", "the file has")
            feature = features[one.model]
            if one.standing not in taken:
                typer.echo("  left as it is: send it with `crossfade flags push`, or drop it with `--theirs`")
            elif feature.flag is None or (files.known is not None and one.model not in files.known):
                untold.append(one.model)
            else:
                pulled += 1
                if not dry_run:
                    write_flag(files.directory, _to_write(files.flags.get(one.model), feature.flag))
                    await admin.note(feature)
    verb = "would be pulled" if dry_run else "pulled"
    typer.echo(
        f"{pulled} flag{'' if pulled == 1 else 's'} {verb} from {admin.where}, environment {admin.environment}"
    )
    if untold:
        typer.echo(
            f"crossfade: not pulled, because no file can say it: {', '.join(untold)};"
            " put the feature right on the server, or overwrite it with `crossfade flags push --ours`",
            err=True,
        )
        raise typer.Exit(1)


def _to_write(file: Flag | None, server: Flag) -> Flag:
    """What the server says; a file has to have an owner and a description, whatever the server has."""
    return replace(
        server,
        owner=server.owner or (file.owner if file else ""),
        description=server.description or (file.description if file else ""),
    )


def _print(difference: Difference, server: str, file: str) -> None:
    typer.echo(f"{difference.model}: {difference.standing}")
    if difference.problem:
        typer.echo(f"  {difference.problem}; no file can say that")
    for change in difference.changes:
        typer.echo(f"  {change.key:<11} {server} {change.server}, {file} {change.file}")


def _row(difference: Difference) -> dict[str, Any]:
    return {
        "model": difference.model,
        "standing": difference.standing.name.lower(),
        "problem": difference.problem or None,
        "changes": {one.key: {"server": one.server, "file": one.file} for one in difference.changes},
    }


def _count(differences: Sequence[Difference]) -> str:
    return f"{len(differences)} flag{'' if len(differences) == 1 else 's'}"


def _write(text: str, output: Path | None) -> None:
    if output is None:
        typer.echo(text)
        return
    try:
        output.write_text(f"{text}\n", encoding="utf-8")
    except OSError as error:
        raise FlagError(str(output), f"cannot be written: {error.strerror}") from None

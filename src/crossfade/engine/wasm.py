"""Prisma's schema parser, as WASM in this process: no Node, no guessing.

The module is written for JavaScript and wants three functions: to make an error object, to throw, and to note the
message of a panic. Strings cross as pointer and length in the module's memory.
"""

from __future__ import annotations

import hashlib
import platform
import threading
from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import wasmtime

from crossfade.engine.cache import cache_directory, digest, write_atomically
from crossfade.errors import EngineError


class ParserRefusal(Exception):  # noqa: N818
    """The parser does not accept what it was given; the message is its own, as it came."""


@lru_cache(maxsize=1)
def parser_at(path: Path) -> WasmParser:
    """The parser whose module is at `path`, compiled once per process."""
    return WasmParser(path)


class WasmParser:
    """One instance of the parser's module. Calls take turns."""

    def __init__(self, path: Path) -> None:
        self._turn = threading.Lock()
        self._engine = wasmtime.Engine()
        self._module = _compile(self._engine, path)

    def call(self, function: str, argument: str) -> str:
        """Call one of the module's functions, all of which take text and return text.

        Raises:
            ParserRefusal: the function reports an error.
            EngineError: the parser itself fails.
        """
        # A fresh instance per call costs about a millisecond, and a panic in one call cannot spoil the next.
        with self._turn:
            return _Call(self._engine, self._module).run(function, argument)


class _Call:
    def __init__(self, engine: wasmtime.Engine, module: wasmtime.Module) -> None:
        self._store = wasmtime.Store(engine)
        self._objects: list[str] = []
        self._panic = ""
        i32 = wasmtime.ValType.i32()
        provided: dict[str, tuple[wasmtime.FuncType, Callable[..., Any]]] = {
            "error_new": (wasmtime.FuncType([i32, i32], [i32]), self._new_error),
            "setmessage": (wasmtime.FuncType([i32, i32], []), self._set_panic),
            "throw": (wasmtime.FuncType([i32, i32], []), self._throw),
        }
        imports = []
        for wanted in module.imports:
            name = next(name for name in provided if name in (wanted.name or ""))
            kind, body = provided[name]
            imports.append(wasmtime.Func(self._store, kind, body))
        self._exports = wasmtime.Instance(self._store, module, imports).exports(self._store)

    def run(self, function: str, argument: str) -> str:
        pointer, length = self._pass(argument)
        place = self._invoke("__wbindgen_add_to_stack_pointer", -16)
        try:
            self._invoke(function, place, pointer, length)
        except (wasmtime.Trap, wasmtime.WasmtimeError) as error:
            msg = f"Prisma's parser failed: {self._panic or 'no reason given'}"
            raise EngineError(msg) from error
        answer = self._read(place, 16)
        result, size, error_object, failed = (
            int.from_bytes(answer[i : i + 4], "little") for i in (0, 4, 8, 12)
        )
        if failed:
            raise ParserRefusal(self._objects[error_object])
        return self._read(result, size).decode()

    def _invoke(self, name: str, *arguments: int) -> Any:
        function = self._exports[name]
        assert isinstance(function, wasmtime.Func)
        return function(self._store, *arguments)

    def _pass(self, text: str) -> tuple[int, int]:
        content = text.encode()
        pointer = self._invoke("__wbindgen_malloc", len(content), 1) & 0xFFFFFFFF
        self._memory.write(self._store, content, pointer)
        return pointer, len(content)

    def _read(self, pointer: int, length: int) -> bytes:
        start = pointer & 0xFFFFFFFF
        return bytes(self._memory.read(self._store, start, start + length))

    @property
    def _memory(self) -> wasmtime.Memory:
        memory = self._exports["memory"]
        assert isinstance(memory, wasmtime.Memory)
        return memory

    def _new_error(self, pointer: int, length: int) -> int:
        self._objects.append(self._read(pointer, length).decode())
        return len(self._objects) - 1

    def _set_panic(self, pointer: int, length: int) -> None:
        self._panic = self._read(pointer, length).decode()

    def _throw(self, pointer: int, length: int) -> None:
        raise wasmtime.WasmtimeError(self._read(pointer, length).decode())


def _compile(engine: wasmtime.Engine, path: Path) -> wasmtime.Module:
    """Compile the module, or take the compiled one from the cache: compiling takes more than a second."""
    content = path.read_bytes()
    key = digest(version("wasmtime"), hashlib.sha256(content).digest(), platform.machine(), platform.system())
    kept = cache_directory() / f"prisma-parser-{key}.cwasm"
    if kept.is_file():
        try:
            return wasmtime.Module.deserialize_file(engine, str(kept))
        except wasmtime.WasmtimeError:
            kept.unlink(missing_ok=True)
    module = wasmtime.Module(engine, content)
    write_atomically(kept, bytes(module.serialize()))
    return module

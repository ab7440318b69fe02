"""Prisma's engine without its native binary, Prisma's parser, and the generation of Prisma Client Python."""

from __future__ import annotations

from crossfade.engine.generate import generate_prisma_client
from crossfade.engine.health import Check, Component, check, install, which
from crossfade.engine.launcher import EngineChoice, EngineKind, configure_environment, ensure_engine
from crossfade.engine.parser import get_config, get_dmmf, load_schema

__all__ = [
    "Check",
    "Component",
    "EngineChoice",
    "EngineKind",
    "check",
    "configure_environment",
    "ensure_engine",
    "generate_prisma_client",
    "get_config",
    "get_dmmf",
    "install",
    "load_schema",
    "which",
]

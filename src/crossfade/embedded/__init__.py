"""Servers as child processes, for the demo and the tests: they live on loopback and end with this process."""

from crossfade.embedded.postgres import EmbeddedPostgres
from crossfade.embedded.process import Child

__all__ = ["Child", "EmbeddedPostgres"]

"""The types of the database fixtures, for tests that annotate them."""

from collections.abc import Awaitable, Callable

from crossfade.dsn import Dsn

FreshDatabase = Callable[..., Awaitable[Dsn]]
"""`await fresh_database(template=None)` creates a database, as a copy of `template` if one is named."""

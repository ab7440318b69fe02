"""crossfade moves a live application from Prisma Client Python to SQLAlchemy 2 and asyncpg, one model at a time.

A model walks through six stages (`crossfade.stages`), asked for by a flag (`crossfade.flags`); every call goes through
one repository that executes it on the side with the authority, has the other side follow, and compares the two.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("crossfade")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

"""What crossfade keeps in each database: capture, fence and record, and the way to them."""

from crossfade.store.objects import Fence
from crossfade.store.store import Store
from crossfade.store.tables import StoredColumn, StoredTable, StoredTables, read_tables

__all__ = ["Fence", "Store", "StoredColumn", "StoredTable", "StoredTables", "read_tables"]

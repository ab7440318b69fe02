"""Copy a model's rows from the legacy store to the target while the application writes.

Theory of operation. A table is cut into ranges of its key, the chunks. Each is read by one COPY in the order of the
key, streamed into a staging table in the target, and from there what the target lacks is inserted; all of this, and
what the chunk's own row says, is one transaction of the target. So a worker may die anywhere: what it has not
committed is gone, and its lock with it, and what it has committed is known to everybody. Whoever finds no chunk to
copy cuts the next one behind the frontier. Workers know of each other through the target store alone.

What is read is old when it is committed. Three rules make up for it:

* What was written to the legacy store is captured since the installation, and no chunk is read before. So every row
  that has changed since it was read has an entry, and whoever verifies that entry sees the row as it is now.
* A chunk never writes over a row. What the target has was put there by somebody who read later, or is verified later.
* What a chunk inserts is not captured in the target, for that would cost as much as the copying (where both stores do
  not sort the key alike it is captured, and the rest of this does not concern it).

The third rule leaves one gap. Let a chunk be read at R and committed at C. A reconciler that looks at an entry before
C sees none of the chunk's rows, whatever it does; when is that entry dropped although the chunk makes it wrong?

* The legacy store has the row. Then the stores differ as long as the target shows none, or an older one, and the
  entry stays until the row was repaired. The repair waits for the chunk, if that has inserted already, and writes
  over it; or it comes first, and the chunk leaves its row alone. It is "equal" only if the target shows the same row,
  and then the chunk inserts nothing under that key.
* The legacy store has no such row: it was deleted, or has got another key, or the table was truncated, after R. The
  target shows none either: "equal", the entry is dropped, and then C brings a row that nobody has any more. That it
  was renamed (the entry's `was`) does not help, for there is no row to be renamed yet; and where a TRUNCATE is
  expanded to the keys that the stores have, this one is not among them. What a follower's own delete did in the
  target before C, it did to nothing. The reason is always the same: there is no row in either store, and there was
  one at R.

So a chunk that has *landed* owes a check: after C, the keys of its range are read anew in both stores, and each that
only the target has is noted there to be verified, in the transaction that sets the chunk to done. Let the row be
deleted at D and the check read the legacy store at K, later than C. If D is before K the check finds it. If D is
after K, its entry appears after C, and whoever verifies it sees the chunk's row. A key that is noted without need
costs one look. The check is bound to the chunk, not to the worker: who dies after C leaves it to the next one.

Authority. No chunk is committed late. The fence of the target refuses a follower's statement from the moment on at
which the authority is there; an INSERT that came before that holds a lock on the table until C, for which whoever
puts the fence up has to wait. A check that comes late notes keys, which is never wrong: the authority wins. But a row
that was deleted, has landed and is not checked must not become the authority's. Therefore the authority moves only if
every table of the model is done: then no chunk is open, and none will be. The drain of a move sees what all chunks
have brought and noted.

Order. Parents come first, and a table waits until its parents are copied. What is missing nevertheless (rows that
refer to each other across chunks, or in a circle) makes a chunk *wait*; waiting chunks are read again when everything
else is copied, until no row more finds its place. The rest is noted and left to the reconciler, as is a row whose
unique value another one has. A row that the target refuses for what it is stands alone in the end, by halving its
chunk, and is shown.
"""

from crossfade.backfill.backfill import Backfill
from crossfade.backfill.job import CopyPoint
from crossfade.backfill.pace import Pace
from crossfade.backfill.plan import PlannedTable
from crossfade.backfill.progress import TableProgress
from crossfade.backfill.settings import BackfillSettings

__all__ = ["Backfill", "BackfillSettings", "CopyPoint", "Pace", "PlannedTable", "TableProgress"]

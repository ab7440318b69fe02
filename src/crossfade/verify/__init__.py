"""Compare both stores in the databases, down to the rows and columns that differ."""

"""Find what in the legacy store's data will not fit into the target, before anything is copied."""

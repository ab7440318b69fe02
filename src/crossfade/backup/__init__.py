"""Dump each store and prove that the dump can be restored."""

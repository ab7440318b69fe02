"""Alembic's branch `crossfade`: name `crossfade:store/versions` among the `version_locations` of a project."""

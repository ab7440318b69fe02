"""`crossfade demo`: the marketplace moves from Prisma to SQLAlchemy while its users go on working."""

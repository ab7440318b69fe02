"""The reference application: the back office of a marketplace, on its way from Prisma to SQLAlchemy."""

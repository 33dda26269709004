"""Alembic revisions, named pre or post: before or after the code is rolled out."""

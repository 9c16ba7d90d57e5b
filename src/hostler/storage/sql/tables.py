"""The tables that records are kept in, as the newest migration leaves them."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
)

__all__ = ["METADATA", "OWNER", "RESOURCES", "TAGS", "TEXT"]

METADATA: Final = MetaData()
TEXT: Final = Text().with_variant(Text(collation="C"), "postgresql")
"""Ordered by its bytes, as SQLite does it, whatever the language of the database."""

RESOURCES: Final = Table(
    "resources",
    METADATA,
    Column("kind", TEXT, primary_key=True),
    Column("name", TEXT, primary_key=True),
    Column("arn", TEXT, nullable=False, unique=True),
    Column("status", TEXT, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("modified_at", Double, nullable=False),
    Column("document", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    # One for each order in which pages are asked for.
    Index("resources_by_creation", "kind", "created_at", "name"),
    Index("resources_by_change", "kind", "modified_at", "name"),
    Index("resources_by_status", "kind", "status", "name"),
)

TAGS: Final = Table(
    "tags",
    METADATA,
    Column(
        "arn",
        TEXT,
        ForeignKey("resources.arn", onupdate="CASCADE", ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("key", TEXT, primary_key=True),
    Column("value", Text, nullable=False),
)

OWNER: Final = Table(
    "owner",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("epoch", BigInteger, nullable=False),
)
"""One row: how many servers have opened this database. Whoever finds another number than it wrote
is not the owner any more."""

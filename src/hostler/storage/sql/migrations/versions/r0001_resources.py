"""Resources, their tags, and who owns the database."""

import sqlalchemy as sa
from alembic import op

revision = "r0001_resources"
down_revision = None

# As it was then: a migration does not change with the tables of today.
_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "resources",
        sa.Column("kind", _TEXT, primary_key=True),
        sa.Column("name", _TEXT, primary_key=True),
        sa.Column("arn", _TEXT, nullable=False, unique=True),
        sa.Column("status", _TEXT, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("modified_at", sa.Double, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
    )
    op.create_index("resources_by_creation", "resources", ["kind", "created_at", "name"])
    op.create_index("resources_by_change", "resources", ["kind", "modified_at", "name"])
    op.create_index("resources_by_status", "resources", ["kind", "status", "name"])
    op.create_table(
        "tags",
        sa.Column(
            "arn",
            _TEXT,
            sa.ForeignKey("resources.arn", onupdate="CASCADE", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("key", _TEXT, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    owner = op.create_table(
        "owner",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(owner, [{"id": 1, "epoch": 0}])

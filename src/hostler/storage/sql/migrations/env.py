"""Alembic runs this for every migration; the connection comes from `hostler.storage.sql.migrate`.

Source: Alembic cookbook, "Programmatic API use (connection sharing with Alembic)".
"""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    transaction_per_migration=True,
    transactional_ddl=True,  # on SQLite too: `engine` begins transactions in so many words
)
with context.begin_transaction():
    context.run_migrations()

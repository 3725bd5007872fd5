"""Alembic's entry: all migrations, in the transaction of the caller."""

from __future__ import annotations

from alembic import context

from qupath_bridge.service.database.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
context.run_migrations()

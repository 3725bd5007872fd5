"""The address of the output of a job, under which its run is indexed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from qupath_bridge.stores import open_store

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

JOBS = sa.table(
    "jobs", sa.column("job_id", sa.String), sa.column("output", sa.Text), sa.column("url", sa.Text)
)


def upgrade() -> None:
    """Make the change."""
    op.add_column("jobs", sa.Column("url", sa.Text(), nullable=True))
    connection = op.get_bind()
    for job_id, output in connection.execute(sa.select(JOBS.c.job_id, JOBS.c.output)).all():
        url = open_store(output).url
        connection.execute(sa.update(JOBS).where(JOBS.c.job_id == job_id).values(url=url))
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.alter_column("url", existing_type=sa.Text(), nullable=False)


def downgrade() -> None:
    """Take the change back."""
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_column("url")

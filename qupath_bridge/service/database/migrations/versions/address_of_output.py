"""The address of the output of a job, and indexes for pages of jobs by state and of patches."""

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
        batch_op.drop_index("ix_jobs_state")
        batch_op.create_index("jobs_by_state", ["state", "job_id"])
    op.create_index("patches_by_run", "patches", ["run", "number"])


def downgrade() -> None:
    """Take the change back."""
    op.drop_index("patches_by_run", "patches")
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_index("jobs_by_state")
        batch_op.create_index("ix_jobs_state", ["state"])
        batch_op.drop_column("url")

"""First tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
NUMBER = sa.Integer().with_variant(sa.BigInteger(), "postgresql")


def upgrade() -> None:
    """Make the change."""
    op.create_table(
        "jobs",
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("request", JSON, nullable=False),
        sa.Column("output", sa.Text(), nullable=False),
        sa.Column("run_id", sa.String(length=40), nullable=False),
        sa.Column("result", JSON, nullable=False),
        sa.Column("warnings", JSON, nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("hint", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(length=80), nullable=True),
        sa.Column("leased_until", sa.Float(), nullable=True),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("changed", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("job_id"),
        sa.UniqueConstraint("key"),
    )
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_jobs_state"), ["state"], unique=False)

    op.create_table(
        "messages",
        sa.Column("number", NUMBER, autoincrement=True, nullable=False),
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("step", sa.String(length=16), nullable=False),
        sa.Column("slide_id", sa.String(length=300), nullable=True),
        sa.Column("due", sa.Float(), nullable=False),
        sa.Column("owner", sa.String(length=80), nullable=True),
        sa.Column("leased_until", sa.Float(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("number"),
    )
    with op.batch_alter_table("messages", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_messages_job_id"), ["job_id"], unique=False)
        batch_op.create_index("messages_by_due", ["reason", "due"], unique=False)

    op.create_table(
        "runs",
        sa.Column("number", NUMBER, autoincrement=True, nullable=False),
        sa.Column("output", sa.Text(), nullable=False),
        sa.Column("run_id", sa.String(length=40), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("started", sa.String(length=40), nullable=False),
        sa.Column("finished", sa.String(length=40), nullable=True),
        sa.Column("run_digest", sa.String(length=120), nullable=True),
        sa.Column("record", JSON, nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("output"),
    )
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_runs_run_id"), ["run_id"], unique=False)

    op.create_table(
        "artifacts",
        sa.Column("run", NUMBER, nullable=False),
        sa.Column("name", sa.String(length=300), nullable=False),
        sa.Column("bytes", NUMBER, nullable=False),
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.number"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run", "name"),
    )
    op.create_table(
        "corrections",
        sa.Column("number", NUMBER, autoincrement=True, nullable=False),
        sa.Column("run", NUMBER, nullable=False),
        sa.Column("slide_id", sa.String(length=300), nullable=False),
        sa.Column("patch_id", sa.Text(), nullable=False),
        sa.Column("labels", JSON, nullable=False),
        sa.Column("rule_labels", JSON, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.number"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("number"),
    )
    with op.batch_alter_table("corrections", schema=None) as batch_op:
        batch_op.create_index("corrections_by_slide", ["run", "slide_id"], unique=False)

    op.create_table(
        "job_slides",
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("slide_id", sa.String(length=300), nullable=False),
        sa.Column("entry_id", sa.Text(), nullable=False),
        sa.Column("slide_name", sa.Text(), nullable=False),
        sa.Column("task", JSON, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(length=80), nullable=True),
        sa.Column("leased_until", sa.Float(), nullable=True),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("planned", sa.Integer(), nullable=False),
        sa.Column("written", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("failure", JSON, nullable=True),
        sa.Column("changed", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "slide_id"),
    )
    with op.batch_alter_table("job_slides", schema=None) as batch_op:
        batch_op.create_index("job_slides_by_state", ["job_id", "state"], unique=False)

    op.create_table(
        "patches",
        sa.Column("number", NUMBER, autoincrement=True, nullable=False),
        sa.Column("run", NUMBER, nullable=False),
        sa.Column("slide_id", sa.String(length=300), nullable=False),
        sa.Column("patch_id", sa.Text(), nullable=False),
        sa.Column("tile_uuid", sa.String(length=36), nullable=False),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("labels", JSON, nullable=False),
        sa.Column("label_source", sa.Text(), nullable=True),
        sa.Column("x", sa.Integer(), nullable=False),
        sa.Column("y", sa.Integer(), nullable=False),
        sa.Column("w", sa.Integer(), nullable=False),
        sa.Column("h", sa.Integer(), nullable=False),
        sa.Column("z", sa.Integer(), nullable=False),
        sa.Column("t", sa.Integer(), nullable=False),
        sa.Column("mpp", sa.Float(), nullable=True),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("offset", NUMBER, nullable=True),
        sa.Column("length", NUMBER, nullable=True),
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.Column("shares", JSON, nullable=False),
        sa.Column("details", JSON, nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.number"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("number"),
    )
    with op.batch_alter_table("patches", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_patches_tile_uuid"), ["tile_uuid"], unique=False)
        batch_op.create_index("patches_by_label", ["run", "label", "number"], unique=False)
        batch_op.create_index("patches_by_slide", ["run", "slide_id", "number"], unique=False)

    op.create_table(
        "provenance",
        sa.Column("run", NUMBER, nullable=False),
        sa.Column("slide_id", sa.String(length=300), nullable=False),
        sa.Column("project", sa.Text(), nullable=True),
        sa.Column("slide_file", sa.Text(), nullable=True),
        sa.Column("slide_digest", sa.String(length=120), nullable=True),
        sa.Column("annotations", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["run"], ["runs.number"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run", "slide_id"),
    )
    with op.batch_alter_table("provenance", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_provenance_slide_digest"), ["slide_digest"], unique=False
        )

    op.create_table(
        "slides",
        sa.Column("run", NUMBER, nullable=False),
        sa.Column("slide_id", sa.String(length=300), nullable=False),
        sa.Column("entry_id", sa.Text(), nullable=False),
        sa.Column("slide_name", sa.Text(), nullable=False),
        sa.Column("plan_digest", sa.String(length=120), nullable=False),
        sa.Column("patches", sa.Integer(), nullable=False),
        sa.Column("facts", JSON, nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.number"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run", "slide_id"),
    )
    with op.batch_alter_table("slides", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_slides_plan_digest"), ["plan_digest"], unique=False)


def downgrade() -> None:
    """Take the change back."""
    with op.batch_alter_table("slides", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_slides_plan_digest"))

    op.drop_table("slides")
    with op.batch_alter_table("provenance", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_provenance_slide_digest"))

    op.drop_table("provenance")
    with op.batch_alter_table("patches", schema=None) as batch_op:
        batch_op.drop_index("patches_by_slide")
        batch_op.drop_index("patches_by_label")
        batch_op.drop_index(batch_op.f("ix_patches_tile_uuid"))

    op.drop_table("patches")
    with op.batch_alter_table("job_slides", schema=None) as batch_op:
        batch_op.drop_index("job_slides_by_state")

    op.drop_table("job_slides")
    with op.batch_alter_table("corrections", schema=None) as batch_op:
        batch_op.drop_index("corrections_by_slide")

    op.drop_table("corrections")
    op.drop_table("artifacts")
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_runs_run_id"))

    op.drop_table("runs")
    with op.batch_alter_table("messages", schema=None) as batch_op:
        batch_op.drop_index("messages_by_due")
        batch_op.drop_index(batch_op.f("ix_messages_job_id"))

    op.drop_table("messages")
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_jobs_state"))

    op.drop_table("jobs")

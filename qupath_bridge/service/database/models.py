"""The tables.

``jobs``, ``job_slides`` and ``messages`` are the state of work; the others are the index of what
was committed. Times are seconds since 1970, by the clock of the database.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Float, ForeignKey, Index, Integer, String, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

__all__ = [
    "Artifact",
    "Base",
    "Correction",
    "IndexedRun",
    "IndexedSlide",
    "Job",
    "JobSlide",
    "Patch",
    "Provenance",
    "QueuedMessage",
]

Json = JSON().with_variant(JSONB(), "postgresql")
MaybeJson = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
Number = Integer().with_variant(BigInteger(), "postgresql")
"""A key that counts up; SQLite does that for its own integers alone."""


class Base(DeclarativeBase):
    """Base of all tables."""


class Job(Base):
    """A run that somebody asked for."""

    __tablename__ = "jobs"

    job_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    key: Mapped[str | None] = mapped_column(String(200), unique=True)
    state: Mapped[str] = mapped_column(String(16))
    request: Mapped[dict[str, Any]] = mapped_column(Json)
    output: Mapped[str] = mapped_column(Text)
    url: Mapped[str] = mapped_column(Text)
    run_id: Mapped[str] = mapped_column(String(40))
    result: Mapped[dict[str, Any]] = mapped_column(Json)
    warnings: Mapped[list[str]] = mapped_column(Json)
    error: Mapped[str | None] = mapped_column(Text)
    hint: Mapped[str | None] = mapped_column(Text)
    attempts: Mapped[int] = mapped_column(Integer)
    owner: Mapped[str | None] = mapped_column(String(80))
    leased_until: Mapped[float | None] = mapped_column(Float)
    created: Mapped[float] = mapped_column(Float)
    changed: Mapped[float] = mapped_column(Float)

    __table_args__ = (Index("jobs_by_state", "state", "job_id"),)


class JobSlide(Base):
    """A slide of a job, and how far it is."""

    __tablename__ = "job_slides"

    job_id: Mapped[str] = mapped_column(
        ForeignKey("jobs.job_id", ondelete="CASCADE"), primary_key=True
    )
    slide_id: Mapped[str] = mapped_column(String(300), primary_key=True)
    entry_id: Mapped[str] = mapped_column(Text)
    slide_name: Mapped[str] = mapped_column(Text)
    task: Mapped[dict[str, Any]] = mapped_column(Json)
    state: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int] = mapped_column(Integer)
    owner: Mapped[str | None] = mapped_column(String(80))
    leased_until: Mapped[float | None] = mapped_column(Float)
    done: Mapped[int] = mapped_column(Integer)
    planned: Mapped[int] = mapped_column(Integer)
    written: Mapped[int] = mapped_column(Integer)
    seconds: Mapped[float] = mapped_column(Float)
    failure: Mapped[dict[str, Any] | None] = mapped_column(MaybeJson)
    changed: Mapped[float] = mapped_column(Float)

    __table_args__ = (Index("job_slides_by_state", "job_id", "state"),)


class QueuedMessage(Base):
    """A message of the embedded queue; one with a reason is a dead letter."""

    __tablename__ = "messages"

    number: Mapped[int] = mapped_column(Number, primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(String(40), index=True)
    step: Mapped[str] = mapped_column(String(16))
    slide_id: Mapped[str | None] = mapped_column(String(300))
    due: Mapped[float] = mapped_column(Float)
    owner: Mapped[str | None] = mapped_column(String(80))
    leased_until: Mapped[float] = mapped_column(Float)
    reason: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (Index("messages_by_due", "reason", "due"),)


class IndexedRun(Base):
    """A run in an output."""

    __tablename__ = "runs"

    number: Mapped[int] = mapped_column(Number, primary_key=True, autoincrement=True)
    output: Mapped[str] = mapped_column(Text, unique=True)
    run_id: Mapped[str] = mapped_column(String(40), index=True)
    state: Mapped[str] = mapped_column(String(16))
    started: Mapped[str] = mapped_column(String(40))
    finished: Mapped[str | None] = mapped_column(String(40))
    run_digest: Mapped[str | None] = mapped_column(String(120))
    record: Mapped[dict[str, Any]] = mapped_column(Json)


class IndexedSlide(Base):
    """A slide that a run committed."""

    __tablename__ = "slides"

    run: Mapped[int] = mapped_column(
        ForeignKey("runs.number", ondelete="CASCADE"), primary_key=True
    )
    slide_id: Mapped[str] = mapped_column(String(300), primary_key=True)
    entry_id: Mapped[str] = mapped_column(Text)
    slide_name: Mapped[str] = mapped_column(Text)
    plan_digest: Mapped[str] = mapped_column(String(120), index=True)
    patches: Mapped[int] = mapped_column(Integer)
    facts: Mapped[dict[str, Any]] = mapped_column(Json)


class Patch(Base):
    """A patch that a run committed. Boxes are in QuPath pixels."""

    __tablename__ = "patches"

    number: Mapped[int] = mapped_column(Number, primary_key=True, autoincrement=True)
    run: Mapped[int] = mapped_column(ForeignKey("runs.number", ondelete="CASCADE"))
    slide_id: Mapped[str] = mapped_column(String(300))
    patch_id: Mapped[str] = mapped_column(Text)
    tile_uuid: Mapped[str] = mapped_column(String(36), index=True)
    label: Mapped[str | None] = mapped_column(Text)
    labels: Mapped[list[str]] = mapped_column(Json)
    label_source: Mapped[str | None] = mapped_column(Text)
    x: Mapped[int] = mapped_column(Integer)
    y: Mapped[int] = mapped_column(Integer)
    w: Mapped[int] = mapped_column(Integer)
    h: Mapped[int] = mapped_column(Integer)
    z: Mapped[int] = mapped_column(Integer)
    t: Mapped[int] = mapped_column(Integer)
    mpp: Mapped[float | None] = mapped_column(Float)
    path: Mapped[str] = mapped_column(Text)
    offset: Mapped[int | None] = mapped_column(Number)
    length: Mapped[int | None] = mapped_column(Number)
    digest: Mapped[str] = mapped_column(String(80))
    shares: Mapped[dict[str, float]] = mapped_column(Json)
    details: Mapped[dict[str, Any]] = mapped_column(Json)

    __table_args__ = (
        Index("patches_by_run", "run", "number"),
        Index("patches_by_label", "run", "label", "number"),
        Index("patches_by_slide", "run", "slide_id", "number"),
    )


class Correction(Base):
    """A patch whose label a person gave."""

    __tablename__ = "corrections"

    number: Mapped[int] = mapped_column(Number, primary_key=True, autoincrement=True)
    run: Mapped[int] = mapped_column(ForeignKey("runs.number", ondelete="CASCADE"))
    slide_id: Mapped[str] = mapped_column(String(300))
    patch_id: Mapped[str] = mapped_column(Text)
    labels: Mapped[list[str]] = mapped_column(Json)
    rule_labels: Mapped[list[str]] = mapped_column(Json)
    source: Mapped[str] = mapped_column(Text)

    __table_args__ = (Index("corrections_by_slide", "run", "slide_id"),)


class Provenance(Base):
    """A slide of a project from which a run made patches."""

    __tablename__ = "provenance"

    run: Mapped[int] = mapped_column(
        ForeignKey("runs.number", ondelete="CASCADE"), primary_key=True
    )
    slide_id: Mapped[str] = mapped_column(String(300), primary_key=True)
    project: Mapped[str | None] = mapped_column(Text)
    slide_file: Mapped[str | None] = mapped_column(Text)
    slide_digest: Mapped[str | None] = mapped_column(String(120), index=True)
    annotations: Mapped[str | None] = mapped_column(Text)


class Artifact(Base):
    """A record or side file of a run."""

    __tablename__ = "artifacts"

    run: Mapped[int] = mapped_column(
        ForeignKey("runs.number", ondelete="CASCADE"), primary_key=True
    )
    name: Mapped[str] = mapped_column(String(300), primary_key=True)
    bytes: Mapped[int] = mapped_column(Number)
    digest: Mapped[str] = mapped_column(String(80))

"""Alembic's script of migrations, and the migrations."""

"""The layout of patch files: which names a template may make."""

from __future__ import annotations

import re

LAYOUT_FIELDS = ("slide_id", "entry_id", "project", "label", "patch_id")


def layout_problem(template: str) -> str | None:
    """Return what is wrong with a layout, None for one that gives every patch its own name.

    >>> layout_problem("patches/{label}/{patch_id}"), layout_problem("{label}")
    (None, 'must begin with patches/')
    """
    fields = re.findall(r"\{([^{}]*)\}", template)
    unknown = [name for name in fields if name not in LAYOUT_FIELDS]
    rest = re.sub(r"\{[^{}]*\}", "x", template)
    if not template.startswith("patches/"):
        return "must begin with patches/"
    if "{" in rest or "}" in rest or unknown:
        return f"may use {', '.join('{' + name + '}' for name in LAYOUT_FIELDS)} only"
    if not template.endswith("{patch_id}"):
        return "must end with {patch_id}, or patches would overwrite each other"
    if not re.fullmatch(r"[A-Za-z0-9._/-]+", rest) or ".." in rest or "//" in rest:
        return "may have letters, digits, '.', '_', '-' and '/' between the fields"
    return None

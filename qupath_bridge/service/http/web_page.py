"""The web page of the service: three kinds of files of this package, and nothing from elsewhere.

The page is the same for everybody, and needs no token. What it shows it asks the API for, with the
token that a person gave it.
"""

from __future__ import annotations

from importlib.resources import files

from fastapi import FastAPI, Response

from qupath_bridge.reporting.page import style_and_script

__all__ = ["FOLDER", "add_page"]

FOLDER = "page"
"""Folder of the files, in this package and in their addresses."""

MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}

PAGE = "index.html"


def add_page(app: FastAPI) -> None:
    """Let the application answer with the page at ``/``."""
    folder = files(__package__) / FOLDER
    known = {each.name: each.read_bytes() for each in folder.iterdir() if _media_type(each.name)}
    headers = {"content-security-policy": _policy()}

    @app.get("/", include_in_schema=False)
    def show_page() -> Response:
        return Response(known[PAGE], media_type="text/html", headers=headers)

    @app.get(f"/{FOLDER}/{{name}}", include_in_schema=False)
    def get_file(name: str) -> Response:
        if name not in known:
            return Response(status_code=404)
        return Response(known[name], media_type=_media_type(name), headers=headers)


def _policy() -> str:
    """Return the security policy of the page.

    It shows reports in a document without rights, which has this policy and its own. So the style
    and the script of a report have to be allowed here, too.
    """
    style, script = style_and_script()
    return (
        f"default-src 'none'; script-src 'self' {script}; style-src 'self' {style}; "
        "img-src blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )


def _media_type(name: str) -> str | None:
    return MEDIA_TYPES.get(name[name.rfind(".") :])

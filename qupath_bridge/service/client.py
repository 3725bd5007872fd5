"""A client of the service for Python programs.

::

    with Client("http://127.0.0.1:8350", token=...) as client:
        job = client.submit(["/data/study/project.qpproj"], "/data/runs/study", {"mpp": 0.5})
        job = client.wait(job["job_id"])
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import httpx

from qupath_bridge.errors import BridgeError

__all__ = ["DEFAULT_URL", "Client", "ServiceError"]

DEFAULT_URL = "http://127.0.0.1:8350"

URL_VARIABLE, TOKEN_VARIABLE = "QUPATH_BRIDGE_URL", "QUPATH_BRIDGE_TOKEN"

TRIES = 4
"""Times that a request is sent while the service cannot be reached."""

PAUSE = 0.5
"""Seconds before it is sent again; each further time after twice as long."""

LARGEST = 10_000

ENDED = ("complete", "failed", "cancelled")


class ServiceError(BridgeError):
    """The service refused a request, or cannot be reached.

    ``status`` is the HTTP status, None if there was no answer.
    """

    def __init__(self, message: str, *, hint: str | None = None, status: int | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class Client:
    """Asks a service. Answers are mappings, as ``/openapi.json`` of the service describes them.

    Parameters
    ----------
    url : str, optional
        The environment variable ``QUPATH_BRIDGE_URL``, or the address of ``service run``, when
        not given.
    token : str, optional
        The environment variable ``QUPATH_BRIDGE_TOKEN`` when not given.
    timeout : float
        Seconds to wait for an answer.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        timeout: float = 30.0,
    ) -> None:
        token = token or os.environ.get(TOKEN_VARIABLE)
        self.url = url or os.environ.get(URL_VARIABLE) or DEFAULT_URL
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            self._http = httpx.Client(base_url=self.url, headers=headers, timeout=timeout)
        except (httpx.InvalidURL, ValueError) as error:
            raise ServiceError(f"{self.url} is not an address of a service: {error}.") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    def close(self) -> None:
        """Close connections. Idempotent."""
        self._http.close()

    def submit(
        self,
        sources: Sequence[str | Path],
        output: str | Path,
        configuration: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
    ) -> dict[str, Any]:
        """Ask for a job; return its state.

        Parameters
        ----------
        sources : sequence of path
            Projects or slides, absolute, as the service sees them.
        output : path or URL
        configuration : mapping, optional
            Options, as in a configuration file.
        key : str, optional
            The same request with the same key is one job. A new one when not given, so that a
            request whose answer got lost is sent again without harm.

        Raises
        ------
        ServiceError
            If the service refuses it, or cannot be reached.
        """
        body = {
            "sources": [str(each) for each in sources],
            "output": str(output),
            "configuration": dict(configuration or {}),
            "key": key or uuid.uuid4().hex,
        }
        return self._json("POST", "/jobs", json=body)

    def jobs(self, *, state: str | None = None) -> Iterator[dict[str, Any]]:
        """Yield all jobs, the newest first."""
        yield from self._pages("/jobs", "jobs", "before", state=state)

    def job(self, job_id: str) -> dict[str, Any]:
        """Return the state of a job."""
        return self._json("GET", f"/jobs/{_part(job_id)}")

    def slides(self, job_id: str, *, state: str | None = None) -> Iterator[dict[str, Any]]:
        """Yield the slides of a job; ``state="failed"`` gives the failures."""
        yield from self._pages(f"/jobs/{_part(job_id)}/slides", "slides", "after", state=state)

    def patches(
        self, job_id: str, *, label: str | None = None, slide: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield the committed patches of a job."""
        path = f"/jobs/{_part(job_id)}/patches"
        yield from self._pages(path, "patches", "after", label=label, slide=slide)

    def patch(self, tile_uuid: str) -> dict[str, Any]:
        """Return a patch by its tile id, and where it comes from."""
        return self._json("GET", f"/patches/{_part(tile_uuid)}")

    def image(self, tile_uuid: str) -> bytes:
        """Return the picture of a patch."""
        return self._send("GET", f"/patches/{_part(tile_uuid)}/image").content

    def cancel(self, job_id: str) -> dict[str, Any]:
        """Stop a job; return its state."""
        return self._json("POST", f"/jobs/{_part(job_id)}/cancel")

    def retry(self, job_id: str) -> dict[str, Any]:
        """Do again what failed in a job; return its state."""
        return dict(self._send("POST", f"/jobs/{_part(job_id)}/retry", tries=1).json())

    def wait(
        self,
        job_id: str,
        *,
        timeout: float | None = None,
        interval: float = 1.0,
        on_change: Callable[[dict[str, Any]], None] | None = None,
    ) -> dict[str, Any]:
        """Wait until a job has ended; return its state.

        Raises
        ------
        ServiceError
            If it has not ended in ``timeout`` seconds.
        """
        began = time.monotonic()
        last: dict[str, Any] | None = None
        while True:
            job = self.job(job_id)
            if on_change is not None and job != last:
                on_change(job)
            if job["state"] in ENDED:
                return job
            if timeout is not None and time.monotonic() - began > timeout:
                raise ServiceError(
                    f"Job {job_id} is still {job['state']} after {timeout:.0f} seconds.",
                    hint="It goes on; ask for it later.",
                )
            last = job
            time.sleep(interval)

    def _pages(self, path: str, name: str, cursor: str, **query: Any) -> Iterator[dict[str, Any]]:
        wanted = {key: value for key, value in query.items() if value is not None}
        wanted["limit"] = LARGEST  # the service gives as many as it allows
        while True:
            page = self._json("GET", path, params=wanted)
            yield from page[name]
            if page["next"] is None:
                return
            wanted[cursor] = page["next"]

    def _json(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self._send(method, path, **request).json()
        return answer

    def _send(self, method: str, path: str, tries: int = TRIES, **request: Any) -> httpx.Response:
        """Send a request, again while the service cannot be reached."""
        for attempt in range(1, tries + 1):
            try:
                response = self._http.request(method, path, **request)
            except httpx.TransportError as error:
                if attempt == tries:
                    raise ServiceError(
                        f"No service answers at {self.url}: {error}.",
                        hint="Start it with `qupath-bridge service run`, or name its address.",
                    ) from error
            else:
                if response.status_code not in (429, 503) or attempt == tries:
                    return _checked(response)
            time.sleep(PAUSE * 2 ** (attempt - 1))
        raise AssertionError("the last attempt returns or raises")


def _checked(response: httpx.Response) -> httpx.Response:
    if response.is_success:
        return response
    try:
        answer = response.json()
        message, hint = str(answer["error"]), answer.get("hint")
    except (ValueError, KeyError, TypeError):
        message, hint = f"The service answered {response.status_code}.", None
    raise ServiceError(message, hint=hint, status=response.status_code)


def _part(text: str) -> str:
    """Return a text as one part of a path."""
    return quote(text, safe="")

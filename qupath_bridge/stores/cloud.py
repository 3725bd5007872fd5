"""Object storage: Amazon S3 and what speaks its protocol, Google Cloud Storage, Azure Blob Storage.

Objects appear whole or not at all, so nothing has to be renamed. Credentials come from the
environment alone: a URL is written into records, and holds none.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import AzureStore, GCSStore, S3Store

from qupath_bridge.errors import OutputError
from qupath_bridge.parallel import ordered_map

from .answers import CLIENT_ERRORS, MAY_HEAL, REASONS, UNREACHED, said_in
from .base import Data, Draft, State, checked_name, chunks_of, replaced
from .local import MAX_BYTES

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta
    from obstore.store import ClientConfig, RetryConfig

__all__ = ["CloudStore"]

PART = 8 << 20
"""Bytes of a part of a large object. Smaller objects are sent at once."""

PARTS = 9000
"""Most parts of an object; services allow 10,000."""

REQUESTS = 32
"""Requests about small objects that are under way at the same time: a service takes some 20 ms for
each, however small."""

PARTS_AT_ONCE = 4
"""Parts of one object that are under way at the same time: with ``PART``, 32 MiB of memory."""

PAGE = 1000
"""Names of one answer, as the services cut them."""

RETRIES = 8
"""Times that a request is sent again where the service cannot answer; some 25 s in all."""

RETRY_SECONDS = 60

FAILURES = (BaseError, OSError, ValueError)
"""Errors that obstore raises: its own, FileNotFoundError, PermissionError."""


@dataclass(frozen=True, slots=True)
class _Service:
    """A kind of object storage: its class, its variables, what its URLs begin with."""

    store: type[S3Store | GCSStore | AzureStore]
    variables: str
    container: str
    endpoint: str


_SERVICES: Mapping[str, _Service] = MappingProxyType(
    {
        "s3": _Service(
            S3Store,
            "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and, for other services than "
            "Amazon's, AWS_ENDPOINT_URL",
            "BUCKET",
            "AWS_ENDPOINT_URL",
        ),
        "gs": _Service(GCSStore, "GOOGLE_APPLICATION_CREDENTIALS", "BUCKET", "GOOGLE_BASE_URL"),
        "az": _Service(
            AzureStore,
            "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
            "CONTAINER",
            "AZURE_STORAGE_ENDPOINT",
        ),
    }
)

_URL = re.compile(r"(?P<scheme>[a-z0-9]+)://(?P<bucket>[A-Za-z0-9][A-Za-z0-9._-]*)(?P<path>(/.*)?)")


class CloudStore:
    """Objects below a URL of a bucket. Nothing is asked of the service before the first call.

    Parameters
    ----------
    url : str
        ``s3://BUCKET/FOLDER``, ``gs://BUCKET/FOLDER`` or ``az://CONTAINER/FOLDER``; the folder may
        be left out.

    Raises
    ------
    OutputError
        If the URL is not complete or holds credentials, or those of the environment cannot be
        used.
    """

    at_once = REQUESTS

    def __init__(self, url: str) -> None:
        self._url, self._scheme, bucket, folder = _parse(url)
        self._folder = f"{folder}/" if folder else ""
        service = _SERVICES[self._scheme]
        client: ClientConfig = {"timeout": timedelta(minutes=5)}
        if os.environ.get(service.endpoint, "").lower().startswith("http://"):
            client["allow_http"] = True
        retry: RetryConfig = {
            "max_retries": RETRIES,
            "retry_timeout": timedelta(seconds=RETRY_SECONDS),
        }
        with self._errors_of("", "opened"):
            self._client: Any = service.store(bucket, client_options=client, retry_config=retry)

    @property
    def url(self) -> str:
        """The place, as ``open_store`` takes it."""
        return self._url

    def __repr__(self) -> str:
        return f"CloudStore({self._url!r})"

    def __reduce__(self) -> tuple[type[CloudStore], tuple[str]]:
        return type(self), (self._url,)

    def put(self, name: str, data: Data, *, durable: bool = False) -> None:
        """Write ``data`` under ``name``. Services answer when it is durable."""
        if isinstance(data, bytes | memoryview) and len(data) <= PART:
            with self._errors_of(name, "written"):
                obstore.put(self._client, self._key(name), bytes(data), use_multipart=False)
            return
        draft = _CloudDraft(self)
        try:
            for piece in chunks_of(data):
                draft.write(piece)
            draft.publish(name)
        finally:
            draft.discard()

    def create(self, name: str, data: Data) -> bool:
        """Write ``data`` under ``name`` where nothing is; return False where something is."""
        key, whole = self._key(name), b"".join(chunks_of(data))
        with self._errors_of(name, "written"):
            try:
                obstore.put(self._client, key, whole, mode="create")
            except AlreadyExistsError:
                return False
        return True

    def draft(self, folder: str) -> Draft:
        """Begin a file: its bytes wait in a temporary file until it has a name."""
        if folder:
            checked_name(folder)
        return _CloudDraft(self)

    def get(self, name: str) -> bytes:
        """Return the bytes under ``name``."""
        with self._errors_of(name, "read"):
            answer = obstore.get(self._client, self._key(name))
            if answer.meta["size"] > MAX_BYTES:
                raise OutputError(
                    f"{self._shown(name)} has {answer.meta['size']} bytes, which is too large."
                )
            return bytes(answer.bytes())

    def get_range(self, name: str, offset: int, length: int, state: State | None = None) -> bytes:
        """Return ``length`` bytes from ``offset`` on, in one request."""
        ends = OutputError(f"{name} ends before byte {offset + length}.")
        if not length:
            if self.size(name) < offset:
                raise ends
            return b""
        with self._errors_of(name, "read", unsatisfiable=ends):
            try:
                part = self._part(name, offset, length, state)
            except PreconditionError:
                raise replaced(self._shown(name)) from None
        if len(part) < length:
            raise ends
        return part

    def size(self, name: str) -> int:
        """Return the number of bytes under ``name``."""
        with self._errors_of(name, "read"):
            return int(obstore.head(self._client, self._key(name))["size"])

    def sizes(self, names: Sequence[str]) -> list[int | None]:
        """Return the number of bytes under each name; None if there is no object."""
        found = self._listed_sizes(names)
        asked = [name for name in names if name not in found]
        sizes = ordered_map(self._size, asked, workers=self.at_once)
        found |= zip(asked, sizes, strict=True)
        return [found[name] for name in names]

    def _listed_sizes(self, names: Sequence[str]) -> dict[str, int | None]:
        """Return the sizes of those names that are quicker to list than to ask for.

        Some hundred names of a folder mostly stand together. Where they do not, listing ends after
        as many pages as questions would take turns.
        """
        found: dict[str, int | None] = {}
        for _, group in groupby(sorted(names), key=lambda name: name.rpartition("/")[0]):
            wanted = list(group)
            there: dict[str, int] = {}
            pages, last = self._pages(wanted[0]), ""
            for _ in range(len(wanted) // self.at_once):
                page = next(pages, None)
                there.update(page or {})
                last = wanted[-1] if page is None else max(page, default=last)
                if last >= wanted[-1]:
                    break
            found |= {name: there.get(name) for name in wanted if name <= last}
        return found

    def _pages(self, first: str) -> Iterator[dict[str, int]]:
        """Yield names from one on with their sizes, a page at a time, of its folder and below."""
        key, begin = self._key(first), len(self._folder)
        with self._errors_of(first, "listed"):
            pages = obstore.list(
                self._client, key.rpartition("/")[0] or None, offset=key[:-1], chunk_size=PAGE
            )
            for page in pages:
                yield {each["path"][begin:]: each["size"] for each in page}

    def _size(self, name: str) -> int | None:
        with self._errors_of(name, "read"):
            try:
                return int(obstore.head(self._client, self._key(name))["size"])
            except FileNotFoundError:
                return None

    def state(self, name: str) -> State:
        """Return size and ETag of the object."""
        with self._errors_of(name, "read"):
            return _state_of(obstore.head(self._client, self._key(name)))

    def exists(self, name: str) -> bool:
        """Return whether there is something under ``name``."""
        return self._size(name) is not None

    def list(self, prefix: str = "") -> Iterator[str]:
        """Yield all names that start with ``prefix``, sorted, as the services order them."""
        wanted = f"{self._folder}{prefix}"
        folder, _, beginning = wanted.rpartition("/")
        # Services begin after a name. An output has very many patches: others are not asked for.
        after = wanted[:-1] if len(beginning) > 1 else None
        with self._errors_of(prefix, "listed"):
            pages = obstore.list(self._client, folder or None, offset=after, chunk_size=PAGE)
            for page in pages:
                for found in page:
                    key = found["path"]
                    if key.startswith(wanted):
                        yield key[len(self._folder) :]
                    elif key > wanted:
                        return

    def children(self, folder: str = "") -> Iterator[str]:
        """Yield the names in a folder itself, sorted; those of folders end with ``/``."""
        begin = len(self._folder)
        with self._errors_of(folder, "listed"):
            found = obstore.list_with_delimiter(self._client, f"{self._folder}{folder}" or None)
        names = [each["path"][begin:] for each in found["objects"]]
        yield from sorted([*names, *(f"{path[begin:]}/" for path in found["common_prefixes"])])

    def delete(self, name: str) -> None:
        """Remove ``name``."""
        with self._errors_of(name, "removed"):
            try:
                obstore.delete(self._client, self._key(name))
            except FileNotFoundError:
                return  # some services say so

    def free_bytes(self) -> int | None:
        """Return None: a bucket has no end."""
        return None

    def sweep(self) -> int:
        """Find nothing: objects are whole. Services remove unfinished uploads by a rule."""
        return 0

    def _part(self, name: str, offset: int, length: int, state: State | None) -> bytes:
        """Ask for a range, of one content if it is given: the service refuses another by ETag."""
        options: GetOptions = {"range": (offset, offset + length)}
        if state is not None and state.tag[:1] == '"':  # of weak tags no condition is ever true
            options["if_match"] = state.tag
        found = obstore.get(self._client, self._key(name), options=options)
        if state is not None and _state_of(found.meta).tag != state.tag:
            raise replaced(self._shown(name))
        return bytes(found.bytes())

    def _upload(self, name: str, file: IO[bytes], size: int) -> None:
        with self._errors_of(name, "written"):
            obstore.put(
                self._client,
                self._key(name),
                file,
                use_multipart=size > PART,
                chunk_size=max(PART, size // PARTS + 1),
                max_concurrency=PARTS_AT_ONCE,
            )

    def _key(self, name: str) -> str:
        return f"{self._folder}{checked_name(name)}"

    def _shown(self, name: str) -> str:
        return f"{self._url}/{name}" if name else self._url

    @contextmanager
    def _errors_of(
        self, name: str, done: str, *, unsatisfiable: OutputError | None = None
    ) -> Iterator[None]:
        """Translate errors of the service into OutputError, with place and next step."""
        try:
            yield
        except FAILURES as error:
            if unsatisfiable is not None and "416" in said_in(error):
                raise unsatisfiable from None
            # Without the cause: its text has addresses, which hold the tokens of some services.
            raise self._error(name, done, error, self._said(name, done, error)) from None

    def _said(self, name: str, done: str, error: Exception) -> tuple[str, ...]:
        """Return code and status of an answer, as far as it has them."""
        said = said_in(error)
        if done == "read" and said and said[0] in CLIENT_ERRORS:
            # The answer to HEAD has no text: whoever asks for a byte is told why.
            try:
                obstore.get_range(self._client, self._key(name), start=0, length=1)
            except FAILURES as told:
                said = said_in(told) or said
        return said

    def _error(self, name: str, done: str, error: Exception, said: tuple[str, ...]) -> OutputError:
        known = next((REASONS[each] for each in said if each in REASONS), None)
        if known is None and isinstance(error, FileNotFoundError):
            return OutputError(f"{self._shown(name)} cannot be {done}: it does not exist.")
        if known is None:
            shown = f"status {said[0]}" if said and said[0].isdecimal() else "".join(said[:1])
            reason, hint = (f"the service says {shown}", UNREACHED[1]) if said else UNREACHED
        else:
            reason, hint = known
        variables = _SERVICES[self._scheme].variables
        return OutputError(
            f"{self._shown(name)} cannot be {done}: {reason}.",
            hint=hint.format(variables=variables),
            may_heal=not MAY_HEAL.isdisjoint(said) if said else done != "opened",
        )


class _CloudDraft:
    """Bytes in memory, or in a file without a name where they are many, until they are sent."""

    def __init__(self, store: CloudStore) -> None:
        self._store = store
        self._file = tempfile.SpooledTemporaryFile(max_size=PART)  # noqa: SIM115  # see discard

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        with _errors_of_scratch():
            self._file.write(data)

    def publish(self, name: str, *, durable: bool = False) -> None:
        """Send the file; it has its name when all of it arrived."""
        with _errors_of_scratch():
            size = self._file.tell()
            self._file.seek(0)  # what waits in a buffer is written now
        self._store._upload(name, self._file, size)
        self.discard()

    def discard(self) -> None:
        """Remove the file."""
        # What waits in a buffer cannot be written to a full disk, and nobody needs it.
        with suppress(OSError):
            self._file.close()


@contextmanager
def _errors_of_scratch() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"The temporary folder {tempfile.gettempdir()} cannot be written: "
            f"{error.strerror or error}.",
            hint="Free disk space, or name another folder in the variable TMPDIR.",
            may_heal=True,
        ) from error


def _state_of(meta: ObjectMeta) -> State:
    written = int(meta["last_modified"].timestamp() * 1000) * 1_000_000
    return State(int(meta["size"]), meta["e_tag"] or str(written), written)


def _parse(url: str) -> tuple[str, str, str, str]:
    """Return a URL in its normal form, its scheme, bucket and folder."""
    scheme, _, rest = url.partition(":")
    scheme = scheme.lower()
    service = _SERVICES[scheme]
    if "@" in rest or "?" in rest or "#" in rest:
        # What stands there is not repeated.
        raise OutputError(
            f"A URL of {scheme}:// has no user, password, token or question mark.",
            hint=f"Write {scheme}://{service.container}/FOLDER, and set {service.variables}.",
        )
    match = _URL.fullmatch(f"{scheme}:{rest.rstrip('/')}")
    parts = match["path"].split("/")[1:] if match else []
    if match is None or not all(part.strip(".") and "\\" not in part for part in parts):
        raise OutputError(
            f"{url!r} does not name a place in object storage.",
            hint=f"Write {scheme}://{service.container}/FOLDER.",
        )
    folder = "/".join(parts)
    place = f"{scheme}://{match['bucket']}"
    return f"{place}/{folder}" if folder else place, scheme, match["bucket"], folder

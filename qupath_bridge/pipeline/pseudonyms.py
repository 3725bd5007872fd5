"""Names that identify patients, and the pseudonyms that records have in their place.

A pseudonym is made from the name with a secret key: the same name has the same one in every run
with this key, and nobody finds the name without it. The key file also lists the names behind the
pseudonyms, and turns them back.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import secrets
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from qupath_bridge.config import RunOptions, Selection
from qupath_bridge.errors import OutputError, UsageError
from qupath_bridge.frozen import FrozenDict
from qupath_bridge.model import Slide
from qupath_bridge.patches import ids
from qupath_bridge.qupath.files.uris import parse_path
from qupath_bridge.regular_files import read_regular
from qupath_bridge.schemas import PseudonymRecord, first_fault, parse_json
from qupath_bridge.urls import absolute, shown

if TYPE_CHECKING:
    from .inputs import SlideInputs
    from .plan import Failure

__all__ = [
    "OPEN",
    "Names",
    "Pseudonyms",
    "check_key",
    "is_pseudonym",
    "names_of",
    "register_names",
]

_TOKEN = re.compile(r"\bp-[a-z2-7]{20}\b")
_DIGEST_BYTES = 12
_PLACES = (
    "cache",
    "slide_map", "search", "annotations", "metadata", "corrections", "reviewer", "preview",
    "create_project", "qupath", "pseudonymise", "coords",
)  # fmt: skip
"""Options that can hold a name: of a slide, a person or a folder."""


class Names:
    """Names as records have them: here as they are; pseudonyms are made by a derived class."""

    key_id: str | None = None

    def hide(self, text: str) -> str:
        """Return the text itself."""
        return text

    def hide_in(self, text: str, slides: Iterable[Slide]) -> str:
        """Return the text itself."""
        return text

    def hide_all(self, value: Any) -> Any:
        """Return the value itself."""
        return value

    def renamed(self, slide: Slide) -> Slide:
        """Return the slide itself."""
        return slide

    def metadata(self, values: Mapping[str, str]) -> Mapping[str, str]:
        """Return all metadata."""
        return values

    def inputs(self, inputs: SlideInputs, label_key: str | None) -> SlideInputs:
        """Return the inputs themselves."""
        return inputs

    def failure(self, failure: Failure, slides: Iterable[Slide]) -> Failure:
        """Return the failure itself."""
        return failure

    def command(self, words: Iterable[str]) -> list[str]:
        """Return the words of a command."""
        return list(words)

    def options(self, options: RunOptions) -> dict[str, Any]:
        """Return options as JSON values."""
        return options.as_json()

    def selection(self, selection: Selection) -> dict[str, Any]:
        """Return a selection as JSON values."""
        return selection.as_json()

    def reveal(self, value: Any) -> Any:
        """Return the value itself."""
        return value


OPEN = Names()


@dataclass(frozen=True, repr=False)
class Pseudonyms(Names):
    """The pseudonyms of a key file.

    Attributes
    ----------
    key : bytes
    kept : collection of str
        Keys of the metadata that anybody may see.
    places : collection of str
        Places that the options name, which messages may name too.
    known : mapping of str to str
        Names by pseudonym, as far as the key file lists them.
    """

    key: bytes = field(repr=False)
    kept: Collection[str] = ()
    places: Collection[str] = ()
    known: Mapping[str, str] = FrozenDict()

    @property
    def key_id(self) -> str:  # type: ignore[override]  # a value there, computed here
        """Digest that tells keys apart, and says nothing about them."""
        return hashlib.blake2b(b"key", key=self.key, digest_size=_DIGEST_BYTES).hexdigest()

    def hide(self, text: str) -> str:
        """Return the pseudonym of a name or place; of a pseudonym itself."""
        if not text or is_pseudonym(text):
            return text
        content = text.encode("utf-8", "surrogateescape")
        digest = hashlib.blake2b(content, key=self.key, digest_size=_DIGEST_BYTES).digest()
        return f"p-{base64.b32encode(digest).decode().rstrip('=').lower()}"

    def hide_in(self, text: str, slides: Iterable[Slide]) -> str:
        """Return a text with pseudonyms in place of all that names these slides."""
        return self._without(text, {term for slide in slides for term in _terms(slide)})

    def _without(self, text: str, terms: Collection[str]) -> str:
        for term in sorted({*self.places, *terms}, key=len, reverse=True):
            text = re.sub(rf"(?<!\w){re.escape(term)}(?!\w)", self.hide(term), text)
        return text

    def hide_all(self, value: Any) -> Any:
        """Return JSON values with the pseudonym of each text; keys stay."""
        if isinstance(value, str):
            return self.hide(value)
        if isinstance(value, Mapping):
            return {key: self.hide_all(each) for key, each in value.items()}
        return [self.hide_all(each) for each in value] if isinstance(value, list | tuple) else value

    def renamed(self, slide: Slide) -> Slide:
        """Return a slide that is called by its pseudonym."""
        return replace(slide, name=self.hide(slide.name))

    def metadata(self, values: Mapping[str, str]) -> Mapping[str, str]:
        """Return the metadata that anybody may see."""
        return {key: value for key, value in values.items() if key in self.kept}

    def inputs(self, inputs: SlideInputs, label_key: str | None) -> SlideInputs:
        """Return inputs as they may be kept with the run: what labels, and what anybody may see."""
        said = tuple(
            replace(one, reviewer=one.reviewer and self.hide(one.reviewer))
            for one in inputs.corrections
        )
        wanted = {*self.kept, label_key}
        metadata = {key: value for key, value in inputs.metadata.items() if key in wanted}
        return replace(inputs, corrections=said, metadata=metadata)

    def failure(self, failure: Failure, slides: Iterable[Slide]) -> Failure:
        """Return a failure whose texts name no slide."""
        # The slide itself may not be among them: it could not be put into a new project.
        terms = {failure.slide_name, Path(failure.slide_name).stem}
        terms |= {term for slide in slides for term in _terms(slide)}
        name, slide_id = self.hide(failure.slide_name), failure.slide_id
        if slide_id == ids.slide_id(failure.entry_id, failure.slide_name):
            slide_id = ids.slide_id(failure.entry_id, name)
        return replace(
            failure,
            slide_name=name,
            slide_id=slide_id,
            # Where a file was looked for is the secret itself.
            error=f"The slide file {self.hide(failure.missing)} was not found."
            if failure.missing
            else self._without(failure.error, terms),
            hint=failure.hint and self._without(failure.hint, terms),
            project=failure.project and self.hide(failure.project),
            missing=failure.missing and self.hide(failure.missing),
        )

    def command(self, words: Iterable[str]) -> list[str]:
        """Return a command as one pseudonym: any of its words may be a name."""
        return [self.hide(json.dumps(list(words)))]

    def options(self, options: RunOptions) -> dict[str, Any]:
        """Return options as JSON values, with pseudonyms of places and people."""
        values = options.as_json()
        for name in _PLACES:
            if values[name] not in (None, "auto", "none"):
                values[name] = self.hide_all(values[name])
        values["slide_map"] = {self.hide(old): new for old, new in values["slide_map"].items()}
        return values

    def selection(self, selection: Selection) -> dict[str, Any]:
        """Return a selection as JSON values, with pseudonyms of names and values."""
        return dict(self.hide_all(selection.as_json()))

    def reveal(self, value: Any) -> Any:
        """Return JSON values with the names that are known behind the pseudonyms."""
        if isinstance(value, str):
            return _TOKEN.sub(lambda found: self.known.get(found[0], found[0]), value)
        if isinstance(value, Mapping):
            return {self.reveal(key): self.reveal(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.reveal(each) for each in value]
        return value

    def names_in(
        self,
        slides: Iterable[Slide],
        options: RunOptions,
        selection: Selection,
        command: Iterable[str],
    ) -> dict[str, str]:
        """Return every name that a run may hide, by pseudonym."""
        texts = {*self.places, *(term for slide in slides for term in _terms(slide))}
        texts |= set(_texts([options.as_json(), selection.as_json()]))
        texts.add(json.dumps(list(command)))
        return {self.hide(text): text for text in texts if text}


def _terms(slide: Slide) -> Iterable[str]:
    """Yield all that names a slide: its name, files and folders, and those of its project."""
    yield slide.name
    stored = None if slide.uri is None else parse_path(slide.uri)
    for path in (slide.path, stored):
        if path is not None:
            yield from (path.name, path.stem, *_paths(path))
    yield from _paths(absolute(slide.project.path))
    yield Path(slide.name).stem
    yield slide.project.folder.name
    yield slide.project.name
    if slide.uri is not None:
        yield slide.uri


def _paths(path: PurePath) -> Iterable[str]:
    """Yield a path and the folders above it, as texts."""
    for place in (path, *path.parents):
        if place is path or place.name:
            yield shown(place)


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield key
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)


def is_pseudonym(text: str) -> bool:
    """Return whether a text is a pseudonym, and nothing else.

    >>> is_pseudonym("p-" + "a" * 20), is_pseudonym("p-1")
    (True, False)
    """
    return _TOKEN.fullmatch(text) is not None


def check_key(key_id: str | None, names: Names, *, needed: bool) -> None:
    """Refuse names that are not those of a run, whose record has the key's digest.

    Raises
    ------
    UsageError
        If the key is another one, or is missing and ``needed``.
    """
    if names.key_id == key_id or (names.key_id is None and not needed):
        return
    if key_id is None:
        raise UsageError("The run has open names; it needs no key file.")
    if names.key_id is None:
        raise UsageError(
            "The run has pseudonyms: without their key file nobody knows where its slides are.",
            hint="Give it with pseudonymise, or look at the files alone with --pixels 0.",
        )
    raise UsageError("The run has pseudonyms of another key.", hint="Name the key file of the run.")


def names_of(options: RunOptions) -> Names:
    """Return the names of a run as its options want them, in any process.

    Raises
    ------
    UsageError
        If the key file is not there, or is none.
    """
    if options.pseudonymise is None:
        return OPEN
    path = options.pseudonymise.absolute()
    try:
        state = path.stat()
    except OSError as error:
        raise UsageError(
            f"pseudonymise: {path}: {error.strerror}.", hint="Name the key file of the run."
        ) from error
    key, known = _load(path, (state.st_mtime_ns, state.st_size))
    values = options.as_json()
    named = (text for name in _PLACES for text in _texts(values[name]))
    places = {each for text in named if "/" in text or "\\" in text for each in _paths(Path(text))}
    return Pseudonyms(key, frozenset(options.metadata_keep), frozenset(places), known)


def register_names(
    options: RunOptions,
    slides: Iterable[Slide],
    *,
    selection: Selection,
    command: Iterable[str],
    output: Path | None,
) -> Names:
    """Make the key file if it is not there, list the names of a run in it, and return the names.

    Raises
    ------
    UsageError
        If the key file would be in the output, or is a file of another kind.
    OutputError
        If it cannot be written.
    """
    if options.pseudonymise is None:
        return OPEN
    path = options.pseudonymise.absolute()
    if output is not None and path.resolve().is_relative_to(output.resolve()):
        raise UsageError(
            f"The key file {path} would be in the output, and go wherever the patches go.",
            hint="Name a place that only you can read.",
        )
    try:
        from filelock import FileLock  # few runs have pseudonyms, and all start quicker without it

        with FileLock(f"{path}.lock"):
            if not path.exists():
                _create(path, {"key": secrets.token_hex(32), "names": {}})
            names = names_of(options)
            if not isinstance(names, Pseudonyms):
                raise AssertionError("a key file gives pseudonyms")
            found = names.names_in(slides, options, selection, command)
            if not found.keys() <= names.known.keys():
                known = {**names.known, **found}
                _replace(path, {"key": names.key.hex(), "names": dict(sorted(known.items()))})
    except OSError as error:
        raise OutputError(
            f"The key file {path} cannot be written: {error.strerror or error}.",
            hint="Name another place for it.",
        ) from error
    return names_of(options)


@lru_cache(maxsize=4)
def _load(path: Path, _: tuple[int, int]) -> tuple[bytes, FrozenDict[str, str]]:
    try:
        record = parse_json(read_regular(path))
        PseudonymRecord.model_validate(record)
        return bytes.fromhex(record["key"]), FrozenDict(record["names"])
    except OSError as error:
        raise UsageError(f"pseudonymise: {path}: {error.strerror}.") from error
    except (ValueError, ValidationError) as error:
        fault = first_fault(error) if isinstance(error, ValidationError) else str(error)
        raise UsageError(
            f"{path} is not a key file of pseudonyms: {fault}.",
            hint="Name a new file, which is then made; a file that is there is never replaced.",
        ) from error


def _create(path: Path, values: Mapping[str, Any]) -> None:
    """Write a file that only its owner can read, and that was not there."""
    content = json.dumps({"schema_version": 1, **values}, indent=1, ensure_ascii=False) + "\n"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        file.write(content.encode("utf-8", "surrogateescape"))
        file.flush()
        os.fsync(file.fileno())


def _replace(path: Path, values: Mapping[str, Any]) -> None:
    new = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        _create(new, values)
        new.replace(path)
    finally:
        with suppress(FileNotFoundError):
            new.unlink()

"""Contract suite of outputs."""

from __future__ import annotations

import json
import pickle
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
import xxhash

from qupath_bridge.config.masks import MASK_KINDS, MaskKind
from qupath_bridge.errors import OutputError, UsageError
from qupath_bridge.frozen import FrozenDict
from qupath_bridge.outputs import (
    Location,
    LockHolder,
    Output,
    PatchRef,
    check_lock,
    lock,
    open_output,
)  # fmt: skip
from qupath_bridge.outputs.index import facts_of, make_table, schema, with_facts
from qupath_bridge.outputs.lock import LOCK_FILE

__all__ = ["OutputContract", "rows_of"]

GONE = 2**22 + 12345
"""A process number that no process has: above the largest one of Linux, and odd."""


def rows_of(
    refs: Sequence[PatchRef],
    locations: Sequence[Location],
    payloads: Sequence[bytes],
    facts: Mapping[str, Any] | None = None,
    masks: Mapping[MaskKind, Sequence[tuple[Location, bytes]]] = FrozenDict(),
) -> pa.Table:
    """Return rows of the index for patches; columns that do not matter here are null.

    ``masks`` has place and bytes of the mask of each patch, by kind.
    """
    count = len(refs)
    columns: dict[str, Any] = {name: pa.nulls(count) for name in schema(masks=masks).names}
    columns |= {
        "patch_id": [ref.patch_id for ref in refs],
        "path": [location.path for location in locations],
        "offset": [location.offset for location in locations],
        "length": [location.length for location in locations],
        "digest": [_digest(payload) for payload in payloads],
    }
    for kind, files in masks.items():
        places = zip(*(place for place, _ in files), strict=True)
        columns |= dict(zip(kind.place, map(list, places), strict=True))
        columns[kind.digest] = [_digest(payload) for _, payload in files]
    return with_facts(make_table(columns, masks=masks), facts or {})


def _digest(payload: bytes) -> str:
    return f"xxh3_128:{xxhash.xxh3_128_hexdigest(payload)}"


class OutputContract(ABC):
    """Subclass it, and say which container it is and where a new one is made.

    An output that takes pixels overrides :meth:`payload` and :meth:`bytes_of`.
    """

    container: ClassVar[str]
    """``NAME[:ARGUMENT]`` of the output, as it is registered."""

    locations_stay: ClassVar[bool] = True
    """False where the patches of a slide are always written together, all of them anew."""

    @pytest.fixture
    @abstractmethod
    def url(self) -> str:
        """Return a place where nothing is yet."""

    @pytest.fixture
    def output(self, url: str) -> Iterator[Output]:
        """Return the output in that place."""
        output = self.open(url)
        yield output
        for slide_id in ("1_a", "2_b"):  # what tests left as a killed process does
            output.abort(slide_id)

    def open(self, url: str) -> Output:
        """Open an output, as a process does that comes later."""
        return open_output(url, self.container)

    def payload(self, text: str) -> Any:
        """Return what is written for a patch; another text gives another patch."""
        return f"pixels of {text}".encode() * 20

    def bytes_of(self, payload: Any) -> bytes:
        """Return what :meth:`Output.read` gives for it."""
        return bytes(payload)

    # --- helpers ---

    def refs(self, slide_id: str, count: int) -> list[PatchRef]:
        """Return patches of a slide in two folders."""
        ids = [f"{slide_id}_x{number * 10}_y0" for number in range(count)]
        folders = ["Tumor", "Größe-日本"]
        return [
            PatchRef(slide_id, name, f"patches/{slide_id}/{folders[n % 2]}/{name}.png")
            for n, name in enumerate(ids)
        ]

    def write(
        self, output: Output, slide_id: str, texts: Sequence[str]
    ) -> tuple[list[PatchRef], list[Location], list[bytes]]:
        """Begin a slide and write its patches."""
        refs = self.refs(slide_id, len(texts))
        payloads = [self.payload(text) for text in texts]
        output.begin(slide_id)
        places = [output.write(ref, data) for ref, data in zip(refs, payloads, strict=True)]
        return refs, places, [self.bytes_of(data) for data in payloads]

    def commit(self, output: Output, slide_id: str, texts: Sequence[str], **facts: Any) -> None:
        """Write a slide and commit it."""
        output.commit(slide_id, rows_of(*self.write(output, slide_id, texts), facts=facts))

    def held(self, output: Output, slide_id: str) -> list[bytes]:
        """Return the patches of a slide in the order of its rows; each has its digest."""
        found = []
        for location, digest in self.locations(output, slide_id):
            assert output.exists(location)
            found.append(output.read(location))
            assert _digest(found[-1]) == digest
        return found

    def locations(self, output: Output, slide_id: str) -> list[tuple[Location, str]]:
        """Return where the rows of a slide say that its patches are, and their digests."""
        table = output.table(slide_id)
        assert table is not None
        columns = [table.column(n).to_pylist() for n in ("path", "offset", "length", "digest")]
        return [(Location(*row[:3]), row[3]) for row in zip(*columns, strict=True)]

    def expected(self, texts: Sequence[str]) -> list[bytes]:
        """Return what the patches of a slide should be."""
        return [self.bytes_of(self.payload(text)) for text in texts]

    def lose(self, output: Any, location: Location) -> None:
        """Remove the file of a committed patch, as somebody else would."""
        output.store.delete(location.path)

    # --- slides ---

    def test_it_is_an_output(self, output: Output) -> None:
        """With a place that messages can name."""
        assert isinstance(output, Output)
        assert output.describe()
        assert output.accepts in {"bytes", "array"}

    def test_a_committed_slide_is_read_back(self, output: Output) -> None:
        """Patches and rows, by whoever opens the place later."""
        self.commit(output, "2_b.svs", ["c"], plan_digest="2")
        self.commit(output, "1_a.svs", ["a", "b", "a"], plan_digest="1")
        for each in (output, self.open(output.url)):
            assert each.slides() == ["1_a.svs", "2_b.svs"]
            assert self.held(each, "1_a.svs") == self.expected(["a", "b", "a"])
            assert self.held(each, "2_b.svs") == self.expected(["c"])
            table = each.table("1_a.svs")
            assert table is not None
            assert table.column("patch_id").to_pylist() == [
                "1_a.svs_x0_y0",
                "1_a.svs_x10_y0",
                "1_a.svs_x20_y0",
            ]
            assert facts_of(table) == {"plan_digest": "1"}
            assert each.table("3_c.svs") is None
            self.check_swept(each)

    def test_masks_are_kept_with_their_patches(self, output: Output) -> None:
        """Those of the last commit, at the places that its rows have; no file is left over."""
        if not output.holds_masks:
            return
        for texts in (["a", "b", "c"], ["d", "e"]):
            masks = self.commit_masks(output, "1_a", texts)
            for each in (output, self.open(output.url)):
                assert self.held(each, "1_a") == self.expected(texts)
                table = each.table("1_a")
                assert table is not None
                for kind, expected in masks.items():
                    columns = [table.column(name).to_pylist() for name in kind.place]
                    places = [Location(*row) for row in zip(*columns, strict=True)]
                    assert all(map(each.exists, places))
                    assert [each.read(place) for place in places] == expected
                self.check_swept(each)
        output.remove("1_a")
        self.check_swept(output)

    def commit_masks(
        self, output: Output, slide_id: str, texts: Sequence[str]
    ) -> dict[MaskKind, list[bytes]]:
        """Write a slide with masks of all kinds and commit it; return the bytes of the masks."""
        refs = self.refs(slide_id, len(texts))
        payloads = [self.payload(text) for text in texts]
        places, masks = [], {kind: list[tuple[Location, bytes]]() for kind in MASK_KINDS}
        output.begin(slide_id)
        for number, (ref, payload) in enumerate(zip(refs, payloads, strict=True)):
            places.append(output.write(ref, payload))
            for kind in MASK_KINDS:
                name = ref.name.replace("patches", kind.folder, 1)
                values = np.full((6, 5), number + ord(texts[number]), kind.dtype)
                mask: Any = values if output.accepts == "array" else values.tobytes()
                place = output.write(ref._replace(name=name, mask=kind), mask)
                masks[kind].append((place, values.tobytes()))
        rows = rows_of(refs, places, [self.bytes_of(data) for data in payloads], masks=masks)
        output.commit(slide_id, rows)
        return {kind: [payload for _, payload in files] for kind, files in masks.items()}

    def test_rows_are_read_some_at_a_time(self, output: Output) -> None:
        """They are those of the table, with what holds for all of them."""
        self.commit(output, "1_a", ["a", "b", "a"], plan_digest="1")
        for each in (output, self.open(output.url)):
            rows, table = each.rows("1_a"), each.table("1_a")
            assert rows is not None
            assert table is not None
            assert rows.num_rows == 3
            assert facts_of(rows) == {"plan_digest": "1"}
            assert pa.Table.from_batches(rows.batches()).equals(table)
            (batch,) = rows.batches(["patch_id"])
            assert batch.column(0).to_pylist() == table.column("patch_id").to_pylist()
            assert each.rows("2_b") is None

    def test_unicode_names(self, output: Output) -> None:
        """Of slides and labels."""
        self.commit(output, "1_Größe-日本.svs", ["a", "b"])
        again = self.open(output.url)
        assert again.slides() == ["1_Größe-日本.svs"]
        assert self.held(again, "1_Größe-日本.svs") == self.expected(["a", "b"])
        self.check_swept(again)
        assert again.sweep() == 0

    def test_a_slide_without_patches(self, output: Output) -> None:
        """Counts as committed."""
        self.commit(output, "1_a", [], plan_digest="1")
        again = self.open(output.url)
        assert again.slides() == ["1_a"]
        table = again.table("1_a")
        assert table is not None
        assert table.num_rows == 0
        assert facts_of(table) == {"plan_digest": "1"}

    def test_the_same_patches_give_the_same_rows(self, output: Output) -> None:
        """Also where they are written again."""
        self.commit(output, "1_a", ["a", "b", "c"])
        first = output.table("1_a")
        self.commit(output, "1_a", ["a", "b", "c"])
        assert first is not None
        assert first.equals(output.table("1_a"))
        assert self.held(output, "1_a") == self.expected(["a", "b", "c"])
        self.check_swept(output)

    def test_several_slides_may_be_open(self, output: Output) -> None:
        """Their patches do not mix."""
        slides = ("1_a", "2_b")
        refs = {slide: self.refs(slide, 3) for slide in slides}
        for slide in slides:
            output.begin(slide)
        places: dict[str, list[Location]] = {slide: [] for slide in slides}
        for number in range(3):
            for slide in slides:
                payload = self.payload(f"{slide} {number}")
                places[slide].append(output.write(refs[slide][number], payload))
        for slide in slides:
            data = self.expected([f"{slide} {number}" for number in range(3)])
            output.commit(slide, rows_of(refs[slide], places[slide], data))
        for slide in slides:
            expected = self.expected([f"{slide} {number}" for number in range(3)])
            assert self.held(self.open(output.url), slide) == expected

    def test_a_slide_that_was_not_begun(self, output: Output) -> None:
        """Takes no patch, and no commit; to abort it changes nothing."""
        (ref,) = self.refs("1_a", 1)
        with pytest.raises(UsageError, match="1_a was not begun"):
            output.write(ref, self.payload("a"))
        with pytest.raises(UsageError, match="1_a was not begun"):
            output.commit("1_a", rows_of([], [], []))
        self.commit(output, "1_a", ["a"])
        output.abort("1_a")
        output.abort("2_b")
        assert self.held(output, "1_a") == self.expected(["a"])

    def test_a_part_of_a_file_is_where_the_location_says(self, output: Output) -> None:
        """Offset and length are those of the patch's bytes in the file."""
        self.commit(output, "1_a", [f"{n} " + "x" * n for n in range(20)])
        for location, digest in self.locations(output, "1_a"):
            path, offset, length = location
            content = output.get(path)
            if offset is not None:
                assert length is not None
                content = content[offset : offset + length]
                past = Location(path, output_size(output, path) - length + 1, length)
                assert not output.exists(past)
                assert list(output.missing([location, past])) == [past]
                with pytest.raises(OutputError):
                    output.read(past)
            assert _digest(content) == digest

    def test_a_patch_that_is_not_there(self, output: Output) -> None:
        """Does not exist, and cannot be read."""
        self.commit(output, "1_a", ["a"])
        missing = Location("patches/1_a/Tumor/1_a_x77_y0.png", 0, 1)
        assert not output.exists(missing)
        places = [place for place, _ in self.locations(output, "1_a")]
        assert list(output.missing([missing, *places, missing])) == [missing, missing]
        assert output.at_once >= 1
        with pytest.raises(OutputError):
            output.read(missing)
        with pytest.raises(OutputError, match="must stay inside"):
            output.read(Location("../secret"))

    # --- what does not count ---

    def test_patches_do_not_count_before_the_commit(self, output: Output) -> None:
        """A killed writer leaves no rows, and what it left can be swept."""
        self.commit(output, "1_a", ["a"])
        self.write(output, "2_b", ["b", "c"])
        again = self.open(output.url)
        assert again.slides() == ["1_a"]
        assert again.table("2_b") is None
        again.sweep()
        self.check_swept(again)
        assert again.sweep() == 0
        assert self.held(again, "1_a") == self.expected(["a"])

    def test_a_killed_writer_of_a_committed_slide_leaves_the_earlier_rows(
        self, output: Output
    ) -> None:
        """Each patch has the bytes of its row, or fails its digest; never other ones."""
        self.commit(output, "1_a", ["a", "b"], plan_digest="old")
        self.write(output, "1_a", ["a", "new", "more"])
        again = self.open(output.url)
        table = again.table("1_a")
        assert table is not None
        assert facts_of(table) == {"plan_digest": "old"}
        assert table.num_rows == 2
        first, second = self.locations(again, "1_a")
        assert _digest(again.read(first[0])) == first[1] == _digest(self.expected(["a"])[0])
        assert second[1] == _digest(self.expected(["b"])[0])
        again.sweep()
        self.check_swept(again)
        assert again.read(first[0]) == self.expected(["a"])[0]
        self.commit(again, "1_a", ["a", "new", "more"])
        assert self.held(again, "1_a") == self.expected(["a", "new", "more"])

    def test_an_aborted_slide_leaves_nothing(self, output: Output) -> None:
        """And the others stay."""
        self.commit(output, "1_a", ["a"])
        self.write(output, "2_b", ["b", "c"])
        output.abort("2_b")
        assert output.slides() == ["1_a"]
        self.check_swept(output)
        assert output.sweep() == 0
        assert self.held(output, "1_a") == self.expected(["a"])

    def test_an_aborted_second_writing_keeps_the_first(self, output: Output) -> None:
        """Rows and patches; only what is new goes."""
        self.commit(output, "1_a", ["a", "b"])
        self.write(output, "1_a", ["a", "b", "c", "d"])
        output.abort("1_a")
        assert self.held(output, "1_a") == self.expected(["a", "b"])
        self.check_swept(output)

    def test_a_slide_that_is_begun_again(self, output: Output) -> None:
        """Starts from nothing."""
        self.write(output, "1_a", ["x", "y", "z"])
        self.commit(output, "1_a", ["a"])
        assert self.held(output, "1_a") == self.expected(["a"])
        self.check_swept(output)
        assert output.sweep() == 0

    def test_a_second_commit_takes_the_place_of_the_first(self, output: Output) -> None:
        """Patches that only the first one listed are gone."""
        self.commit(output, "1_a", ["a", "b", "c"], plan_digest="1")
        before = dict(self.locations(output, "1_a"))
        self.commit(output, "1_a", ["new"], plan_digest="2")
        again = self.open(output.url)
        assert self.held(again, "1_a") == self.expected(["new"])
        table = again.table("1_a")
        assert table is not None
        assert facts_of(table) == {"plan_digest": "2"}
        self.check_swept(again)
        for location, digest in before.items():
            assert not again.exists(location) or _digest(again.read(location)) != digest

    def test_patches_that_the_rows_do_not_list_go_with_the_commit(self, output: Output) -> None:
        """As one that was written, and then dropped."""
        refs, places, data = self.write(output, "1_a", ["a", "b"])
        output.commit("1_a", rows_of(refs[:1], places[:1], data[:1]))
        assert self.held(output, "1_a") == self.expected(["a"])
        self.check_swept(output)
        if places[1].offset is None:
            assert not output.exists(places[1])

    def test_a_patch_that_stays_need_only_be_listed(self, output: Output) -> None:
        """Where its location is known from the committed rows, and stays."""
        if not self.locations_stay:
            return
        self.commit(output, "1_a", ["a", "b"])
        kept = [location for location, _ in self.locations(output, "1_a")]
        refs = self.refs("1_a", 3)
        output.begin("1_a")
        added = output.write(refs[2], self.payload("c"))
        output.commit("1_a", rows_of(refs, [*kept, added], self.expected(["a", "b", "c"])))
        assert self.held(self.open(output.url), "1_a") == self.expected(["a", "b", "c"])
        self.check_swept(output)

    def test_a_listed_file_that_somebody_removed_stops_the_commit(self, output: Output) -> None:
        """The earlier rows stay: those of a commit would list what is not there."""
        if not self.locations_stay:
            return
        self.commit(output, "1_a", ["a", "b"], plan_digest="1")
        (_, kept) = (location for location, _ in self.locations(output, "1_a"))
        self.lose(output, kept)
        _, places, _ = self.write(output, "1_a", ["a"])
        rows = rows_of(self.refs("1_a", 2), [*places, kept], self.expected(["a", "b"]))
        self.refuse_commit(output, rows, kept)

    def test_a_listed_file_that_was_never_written_stops_the_commit(self, output: Output) -> None:
        """Nor may the rows list more than there is."""
        self.commit(output, "1_a", ["a"], plan_digest="1")
        refs, places, data = self.write(output, "1_a", ["a", "b"])
        never = Location("patches/1_a/never", 0, 1)
        rows = rows_of(refs, [places[0], never], data)
        self.refuse_commit(output, rows, never)
        assert self.held(self.open(output.url), "1_a") == self.expected(["a"])

    def check_swept(self, output: Output) -> None:
        """Check that nothing is left of what does not count, once it is swept."""
        output.sweep()
        assert list(output.unlisted()) == []
        assert output.sweep() == 0

    def test_a_worker_that_gives_up_harms_no_other_worker(self, output: Output) -> None:
        """A queue may deliver a slide twice: files of both have the same names."""
        other = self.second(output)
        self.write(output, "1_a", ["a", "b"])
        self.commit(other, "1_a", ["a", "b"])
        output.abort("1_a")
        assert self.held(self.open(output.url), "1_a") == self.expected(["a", "b"])
        self.check_swept(output)
        assert self.held(self.open(output.url), "1_a") == self.expected(["a", "b"])

    def test_a_worker_that_gives_up_before_the_commit_of_another(self, output: Output) -> None:
        """What the other one has written stays until it lists it."""
        other = self.second(output)
        refs, places, data = self.write(other, "1_a", ["a", "b"])
        self.write(output, "1_a", ["a", "b"])
        output.abort("1_a")
        other.commit("1_a", rows_of(refs, places, data))
        assert self.held(self.open(output.url), "1_a") == self.expected(["a", "b"])
        self.check_swept(output)

    def test_two_workers_commit_one_slide(self, output: Output) -> None:
        """The last one counts, with all of its patches, whatever the first one replaced."""
        self.commit(output, "1_a", ["a", "b", "c"])
        other = self.second(output)
        refs, places, data = self.write(other, "1_a", ["a", "b", "c"])
        self.commit(output, "1_a", ["a"])
        other.commit("1_a", rows_of(refs, places, data))
        assert self.held(self.open(output.url), "1_a") == self.expected(["a", "b", "c"])
        self.check_swept(output)
        assert self.held(self.open(output.url), "1_a") == self.expected(["a", "b", "c"])

    def second(self, output: Output) -> Output:
        """Open the output as another worker does."""
        return self.open(output.url)

    def refuse_commit(self, output: Output, rows: pa.Table, gone: Location) -> None:
        """Check that a commit fails for a file that is gone, and changes no rows."""
        with pytest.raises(OutputError, match=re.escape(gone.path)):
            output.commit("1_a", rows)
        output.abort("1_a")
        for each in (output, self.open(output.url)):
            table = each.table("1_a")
            assert table is not None
            assert facts_of(table) == {"plan_digest": "1"}
            self.check_swept(each)

    def test_a_removed_slide_is_gone(self, output: Output) -> None:
        """Its rows and its patches; to remove it twice is once."""
        self.commit(output, "1_a", ["a"])
        refs, places, data = self.write(output, "2_b", ["b"])
        dropped = rows_of(refs, places, data)
        output.commit("2_b", rows_of(refs, places, data), dropped)
        locations = [location for location, _ in self.locations(output, "2_b")]
        output.remove("2_b")
        output.remove("2_b")
        again = self.open(output.url)
        assert again.slides() == ["1_a"]
        assert again.table("2_b") is None
        assert again.dropped("2_b") is None
        assert not any(map(again.exists, locations))
        self.check_swept(again)
        assert self.held(again, "1_a") == self.expected(["a"])

    def test_dropped_patches_have_rows_of_their_own(self, output: Output) -> None:
        """They come and go with the commit, and are not patches of the slide."""
        refs, places, data = self.write(output, "1_a", ["a", "b", "c"])
        table = rows_of(refs, places, data)
        output.commit("1_a", table.slice(0, 1), table.slice(1))
        again = self.open(output.url)
        assert again.slides() == ["1_a"]
        assert self.held(again, "1_a") == self.expected(["a"])
        dropped = again.dropped("1_a")
        assert dropped is not None
        assert dropped.column("patch_id").to_pylist() == ["1_a_x10_y0", "1_a_x20_y0"]
        assert again.dropped("2_b") is None
        self.check_swept(again)
        self.commit(again, "1_a", ["a"])
        assert again.dropped("1_a") is None
        refs, places, data = self.write(output, "1_a", ["a"])
        output.commit("1_a", rows_of(refs, places, data), table.slice(0, 0))
        assert again.dropped("1_a") is None

    # --- the place ---

    def test_an_output_is_empty_until_something_is_in_it(self, output: Output) -> None:
        """A lock is nothing."""
        assert output.is_empty()
        with output.lock("R"):
            assert output.is_empty()
        assert output.is_empty()
        output.put("run.json", b"{}")
        assert not output.is_empty()
        assert not self.open(output.url).is_empty()

    def test_an_output_with_patches_is_not_empty(self, output: Output) -> None:
        """Nor one whose writer was killed, before the patches are swept."""
        self.commit(output, "1_a", ["a"])
        assert not self.open(output.url).is_empty()

    def test_records(self, output: Output) -> None:
        """Are put whole, and read back."""
        output.put("report.json", b"old")
        output.put("report.json", b"new", durable=True)
        output.put("inputs/a/ü.csv", iter([b"1,", b"2"]))
        again = self.open(output.url)
        assert again.get("report.json") == b"new"
        assert again.get("inputs/a/ü.csv") == b"1,2"
        assert again.has("report.json")
        assert not again.has("other.json")
        with pytest.raises(OutputError, match=r"other\.json"):
            again.get("other.json")
        with pytest.raises(OutputError, match="must stay inside"):
            output.put("../x", b"")
        assert again.slides() == []

    def test_sweep_keeps_what_others_put_there(self, output: Output) -> None:
        """Files below ``patches/`` that are not ours are named, and stay."""
        self.commit(output, "1_a", ["a"])
        own = ["patches/1_a/Tumor/notes.txt", "patches/copy_x1_y2.png", "patches/readme.tar"]
        for name in own:
            output.put(name, b"mine")
        self.write(output, "2_b", ["b"])
        again = self.open(output.url)
        again.sweep()
        assert list(again.unlisted()) == sorted(own)
        assert all(map(again.has, own))
        assert self.held(again, "1_a") == self.expected(["a"])

    def test_pickling(self, output: Output) -> None:
        """Opens the place again, or is refused by name where that lives in one process."""
        self.commit(output, "1_a", ["a", "b"])
        try:
            packed = pickle.dumps(output)
        except UsageError as error:
            assert output.url in error.message  # not every output raises
            return
        again = pickle.loads(packed)  # noqa: S301  # its own bytes
        assert again.url == output.url
        assert self.held(again, "1_a") == self.expected(["a", "b"])
        self.commit(again, "2_b", ["c"])
        assert output.slides() == ["1_a", "2_b"]

    def test_the_url_opens_the_same_place(self, output: Output) -> None:
        """And a run that is there says which output it is."""
        self.commit(output, "1_a", ["a"])
        with pytest.raises(OutputError, match="contains no run"):
            open_output(output.url)
        output.put("run.json", json.dumps({"config": {"container": self.container}}).encode())
        again = open_output(output.url)
        assert again.url == output.url
        assert type(again) is type(output)
        assert self.held(again, "1_a") == self.expected(["a"])

    # --- the lock ---

    def holder(self, output: Output, **changes: Any) -> LockHolder:
        """Return the holder that this process would be, with changes."""
        with output.lock("R"):
            holder = output.holder()
        assert holder is not None
        return replace(holder, **changes)

    def put_lock(self, output: Output, **changes: Any) -> LockHolder:
        """Leave a lock as another process would."""
        holder = self.holder(output, **changes)
        output.put(LOCK_FILE, json.dumps(asdict(holder)).encode() + b"\n")
        return holder

    def test_a_lock_keeps_other_runs_out(self, output: Output) -> None:
        """And says who holds it."""
        assert output.holder() is None
        with output.lock("FIRST"):
            again = self.open(output.url)
            holder = again.holder()
            assert holder is not None
            assert holder.run_id == "FIRST"
            for run_id in ("SECOND", "FIRST"):
                with pytest.raises(OutputError) as caught, again.lock(run_id):
                    pass
                for part in (
                    output.describe(),
                    "run FIRST",
                    str(holder.process),
                    holder.host,
                    holder.since,
                ):
                    assert part in caught.value.message
                assert "break_lock" in str(caught.value.hint)
            assert output.holder() == holder
        assert output.holder() is None
        with self.open(output.url).lock("SECOND"):
            assert output.holder() is not None

    def test_a_lock_is_released_after_an_error(self, output: Output) -> None:
        """Whatever it is."""
        with pytest.raises(KeyboardInterrupt), output.lock("R"):
            raise KeyboardInterrupt
        assert output.holder() is None
        assert output.is_empty()

    def test_workers_of_a_run_share_its_lock(self, output: Output) -> None:
        """They check that it is theirs."""
        check_lock(output, "FIRST")
        with output.lock("FIRST"):
            worker = self.open(output.url)
            check_lock(worker, "FIRST")
            self.commit(worker, "1_a", ["a"])
            with pytest.raises(OutputError, match="in use by run FIRST"):
                check_lock(worker, "SECOND")
        assert self.held(output, "1_a") == self.expected(["a"])

    def test_a_job_holds_the_lock_until_it_gives_it_back(self, output: Output) -> None:
        """All its processes may take it again, and nobody else, whichever of them ended."""
        self.put_lock(output, run_id="FIRST", process=GONE, job="job1")
        output.hold("FIRST", "job1")
        self.open(output.url).hold("FIRST", "job1")
        check_lock(output, "FIRST")
        for held in (output.lock("SECOND"), output.lock("FIRST")):
            with pytest.raises(OutputError, match="job job1 of a service"), held:
                pass
        with pytest.raises(OutputError, match="job job1 of a service"):
            output.hold("SECOND", "job2")
        output.hold("OTHER", "job1")
        check_lock(output, "OTHER")
        output.release("job2")
        assert output.holder() is not None
        output.release("job1")
        output.release("job1")
        assert output.holder() is None
        assert output.is_empty()

    @pytest.mark.parametrize("changes", [{"process": GONE}, {"process_started": 1.0}])
    def test_the_lock_of_a_dead_process_is_taken_over(
        self, output: Output, changes: dict[str, Any]
    ) -> None:
        """Of one that is gone, or whose number another process has now."""
        self.put_lock(output, run_id="DEAD", **changes)
        with output.lock("NEXT"):
            holder = output.holder()
            assert holder is not None
            assert holder.run_id == "NEXT"
        assert output.holder() is None
        assert output.is_empty()

    def test_a_lock_of_another_host_stays(self, output: Output) -> None:
        """Nobody here can tell whether its process is there; the user can."""
        left = self.put_lock(output, run_id="FAR", host="elsewhere", process=GONE)
        with pytest.raises(OutputError, match=r"run FAR.* on elsewhere"), output.lock("NEXT"):
            pass
        assert output.holder() == left
        with output.lock("NEXT", break_lock=True):
            holder = output.holder()
            assert holder is not None
            assert holder.run_id == "NEXT"
        assert output.holder() is None
        assert output.is_empty()

    def test_a_broken_lock_is_not_released_by_its_first_holder(self, output: Output) -> None:
        """It is another's now."""
        with ExitStack() as stack:
            with output.lock("FIRST"):
                stack.enter_context(self.open(output.url).lock("SECOND", break_lock=True))
            holder = output.holder()
            assert holder is not None
            assert holder.run_id == "SECOND"
        assert output.holder() is None

    @pytest.mark.parametrize(
        "content", [b"", b"{", b"[]\n", b'{"x": ' + b"[" * 9999, b'{"run_id": 1}\n', b"\xff\n"]
    )
    def test_a_lock_that_cannot_be_read_stays(
        self, output: Output, content: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It may be of a newer version; it can be broken."""
        monkeypatch.setattr(lock, "PAUSES", (0.001,))
        output.put(LOCK_FILE, content)
        with pytest.raises(OutputError, match="run unknown"), output.lock("NEXT"):
            pass
        with output.lock("NEXT", break_lock=True):
            assert output.holder() is not None
        assert output.holder() is None

    @pytest.mark.parametrize("dead", [False, True])
    def test_of_many_that_lock_exactly_one_wins(self, output: Output, dead: bool) -> None:
        """Also when they take the lock of a dead process over."""
        for attempt in range(10):
            if dead:
                self.put_lock(output, process=GONE)
            start, end = threading.Barrier(6), threading.Barrier(6)
            won: list[int] = []

            def take(number: int) -> None:
                start.wait()  # noqa: B023  # joined within the loop
                with ExitStack() as stack:
                    try:
                        stack.enter_context(output.lock(f"R{number}"))
                        won.append(number)  # noqa: B023
                    except OutputError:
                        pass
                    end.wait()  # noqa: B023

            threads = [threading.Thread(target=take, args=(n,)) for n in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(won) == 1, attempt
            assert output.holder() is None
        assert output.is_empty()


def output_size(output: Output, path: str) -> int:
    """Return the size of a file of an output."""
    return len(output.get(path))

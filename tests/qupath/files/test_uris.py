"""Search of slide files: a table of URIs for Linux and Windows, and the order of places."""

from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest

from qupath_bridge.errors import UsageError
from qupath_bridge.qupath.files.uris import (
    FileSearch,
    check_search_folder,
    local_path,
    parse_path,
    resolve,
)

# URI in a project -> the file that it means on Linux, and on Windows (None: none there).
URIS = [
    ("file:/home/lab/a.svs", "/home/lab/a.svs", None),
    ("file:///home/lab/a.svs", "/home/lab/a.svs", None),
    ("file://localhost/home/lab/a.svs", "/home/lab/a.svs", None),
    ("FILE:/home/lab/a.svs", "/home/lab/a.svs", None),
    ("file:/home/lab/My%20slides/a%20b.svs", "/home/lab/My slides/a b.svs", None),
    ("file:/home/lab/a%5B1%5D.svs", "/home/lab/a[1].svs", None),
    ("file:/home/lab/a%231%3F.svs", "/home/lab/a#1?.svs", None),
    ("file:/home/lab/100%25.svs", "/home/lab/100%.svs", None),
    ("file:/home/lab/Gewebe_%C3%A4_%E7%BB%84.mrxs", "/home/lab/Gewebe_ä_组.mrxs", None),
    ("file:/home/lab/Gewebe_ä_组.mrxs", "/home/lab/Gewebe_ä_组.mrxs", None),
    ("file:/home/lab/x/../a.svs", "/home/lab/a.svs", None),
    ("file:/home/lab/./../a.svs", "/home/a.svs", None),
    ("file:/../../a.svs", "/a.svs", None),
    ("file:/home/lab/a+b&c=d.svs", "/home/lab/a+b&c=d.svs", None),
    ("/home/lab/a 100%#1.svs", "/home/lab/a 100%#1.svs", None),
    ("file:/C:/slides/a.svs", None, "C:/slides/a.svs"),
    ("file:///C:/slides/a.svs", None, "C:/slides/a.svs"),
    ("file:///c:/slides/a.svs", None, "c:/slides/a.svs"),
    ("file://C:/slides/a.svs", None, "C:/slides/a.svs"),
    ("file:/C:/My%20slides/%C3%A4.svs", None, "C:/My slides/ä.svs"),
    ("file:/C:/slides/../a.svs", None, "C:/a.svs"),
    ("file:/C:/../../a.svs", None, "C:/a.svs"),
    ("C:\\slides\\a.svs", None, "C:/slides/a.svs"),
    ("C:/slides/a.svs", None, "C:/slides/a.svs"),
    ("file://server/share/a.svs", None, None),
    ("file:////server/share/a.svs", None, None),
    ("file:/%5C%5Cserver/share/a.svs", "/\\\\server/share/a.svs", None),
    ("\\\\server\\share\\a.svs", None, None),
    ("//server/share/a.svs", None, None),
    ("http://example.org/a.svs", None, None),
    ("https://example.org/a%20b.svs?image=1", None, None),
    ("omero:image/1", None, None),
    ("a.svs", None, None),
    ("file:a.svs", None, None),
    ("", None, None),
]


@pytest.mark.parametrize(("uri", "posix", "windows"), URIS, ids=[row[0] for row in URIS])
def test_parse_path_table_of_uris(uri, posix, windows):
    assert len(URIS) >= 25
    assert local_path(uri, "posix") == (posix and PurePosixPath(posix))
    assert local_path(uri, "windows") == (windows and PureWindowsPath(windows))


@pytest.mark.parametrize(
    "uri", ["file://server/share/a.svs", "file:////server/share/a.svs", "//server/share/a.svs"]
)
def test_uri_of_a_server_is_a_windows_path_and_never_opened(uri):
    assert parse_path(uri) == PureWindowsPath("//server/share/a.svs")
    for flavour, folder in (
        ("posix", PurePosixPath("/p")),
        ("windows", PureWindowsPath("C:/p")),
    ):
        asked = []
        found = resolve(uri, project_folder=folder, exists=asked.append, flavour=flavour)
        assert found.path is None
        # Only in the project's own folder, never on the server.
        assert asked == [folder / "a.svs"]
        assert "another computer" in found.tried[0]


def test_uri_with_http_is_opened_only_if_mapped():
    uri = "https://example.org/slides/a%20b.svs"
    found = resolve(
        uri, project_folder=PurePosixPath("/p"), exists=lambda p: True, find=lambda n: []
    )
    assert found.path is None
    assert "not a file on this computer" in found.tried[0]
    mapped = resolve(
        uri,
        project_folder=PurePosixPath("/p"),
        slide_map={"https://example.org/slides": "/mnt"},
        exists=lambda p: True,
        flavour="posix",
    )
    assert (mapped.path, mapped.origin) == (PurePosixPath("/mnt/a b.svs"), "mapped")


P, W = PurePosixPath, PureWindowsPath

# URI, old project, folder today, map, system -> the places that are looked at, in order.
PLACES = {
    "as stored only": (
        "file:/a/s/x.svs", None, P("/p"), {}, "posix", [P("/a/s/x.svs"), P("/p/x.svs")],
    ),
    "next to the project": (
        "file:/a/s/x.svs", "file:/a/p/project.qpproj", P("/b/q"), {}, "posix",
        [P("/a/s/x.svs"), P("/b/s/x.svs"), P("/b/q/x.svs")],
    ),
    "inside the project": (
        "file:/a/p/x%20y.svs", "file:/a/p/project.qpproj", P("/b/q"), {}, "posix",
        [P("/a/p/x y.svs"), P("/b/q/x y.svs")],
    ),
    "project not moved": (
        "file:/a/s/x.svs", "file:/a/p/project.qpproj", P("/a/p"), {}, "posix",
        [P("/a/s/x.svs"), P("/a/p/x.svs")],
    ),
    "project of Windows on Linux": (
        "file:/C:/lab/s/x.svs", "file:/c:/Lab/p/project.qpproj", P("/b/q"), {}, "posix",
        [P("/b/s/x.svs"), P("/b/q/x.svs")],
    ),
    "project of Linux on Windows": (
        "file:/a/s/x.svs", "file:/a/p/project.qpproj", W("D:/q/p"), {}, "windows",
        [W("D:/q/s/x.svs"), W("D:/q/p/x.svs")],
    ),
    "other drive than the project": (
        "file:/D:/s/x.svs", "file:/C:/p/project.qpproj", P("/b/q"), {}, "posix", [P("/b/q/x.svs")],
    ),
    "share, project on the same share": (
        "file://h/d/s/x.svs", "file://h/d/p/project.qpproj", P("/mnt/d/p"), {}, "posix",
        [P("/mnt/d/s/x.svs"), P("/mnt/d/p/x.svs")],
    ),
    "more steps up than there are": (
        "file:/x.svs", "file:/a/b/c/project.qpproj", P("/q"), {}, "posix",
        [P("/x.svs"), P("/q/x.svs")],
    ),
    "drive map": (
        "file:/Z:/s/x.svs", None, P("/p"), {"Z:\\": "/mnt/z"}, "posix",
        [P("/mnt/z/s/x.svs"), P("/p/x.svs")],
    ),
    "drive map without slash, other case": (
        "file:/Z:/s/x.svs", None, P("/p"), {"z:": "/mnt/z"}, "posix",
        [P("/mnt/z/s/x.svs"), P("/p/x.svs")],
    ),
    "folder map with forward slashes": (
        "file:/Z:/S/x.svs", None, P("/p"), {"Z:/s": "/mnt"}, "posix",
        [P("/mnt/x.svs"), P("/p/x.svs")],
    ),
    "share map": (
        "file://host/Share/x.svs", None, P("/p"), {"\\\\HOST\\share": "/mnt"}, "posix",
        [P("/mnt/x.svs"), P("/p/x.svs")],
    ),
    "share map on Windows": (
        "file:////host/share/x.svs", None, W("C:/p"), {"//host/share": "\\\\host\\share"},
        "windows", [W("//host/share/x.svs"), W("C:/p/x.svs")],
    ),
    "path map before the stored place": (
        "file:/a/s/x.svs", None, P("/p"), {"/a": "/b"}, "posix",
        [P("/b/s/x.svs"), P("/a/s/x.svs"), P("/p/x.svs")],
    ),
    "uri map": (
        "file:/a/s/x%20y.svs", None, P("/p"), {"file:/a/": "file:///b%20c"}, "posix",
        [P("/b c/s/x y.svs"), P("/a/s/x y.svs"), P("/p/x y.svs")],
    ),
    "map of Linux to Windows": (
        "file:/a/s/x.svs", None, W("C:/p"), {"/a/s": "D:\\s"}, "windows",
        [W("D:/s/x.svs"), W("C:/p/x.svs")],
    ),
    "map of one file": (
        "file:/a/x.svs", None, P("/p"), {"/a/x.svs": "/b/y.svs"}, "posix",
        [P("/b/y.svs"), P("/a/x.svs"), P("/p/x.svs")],
    ),
    "map at whole names only": (
        "file:/ab/x.svs", None, P("/p"), {"/a": "/b"}, "posix",
        [P("/ab/x.svs"), P("/p/x.svs")],
    ),
    "http map at whole names only": (
        "http://h/ab/x.svs", None, P("/p"), {"http://h/a": "/b"}, "posix", [],
    ),
    "Windows map for a Linux path": (
        "file:/a/x.svs", None, P("/p"), {"Z:\\": "/b", "http://h": "/c"}, "posix",
        [P("/a/x.svs"), P("/p/x.svs")],
    ),
    "maps in their order, before all others": (
        "file:/a/s/x.svs", "file:/a/p/project.qpproj", P("/b/q"), {"/a/s": "/c", "/a": "/d"},
        "posix",
        [P("/c/x.svs"), P("/d/s/x.svs"), P("/a/s/x.svs"), P("/b/s/x.svs"), P("/b/q/x.svs")],
    ),
    "old place unknown": (
        "file:/a/s/x.svs", "http://h/project.qpproj", P("/b"), {}, "posix",
        [P("/a/s/x.svs"), P("/b/x.svs")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PLACES.values(), ids=PLACES)
def test_resolve_tries_places_in_order(case):
    uri, project_uri, folder, slide_map, flavour, expected = case
    asked = []
    found = resolve(
        uri,
        project_folder=folder,
        project_uri=project_uri,
        slide_map=slide_map,
        exists=lambda path: bool(asked.append(path)),
        flavour=flavour,
    )
    # Where the map names a new place, no old place is looked at.
    expected = expected[: len(found.mapped) or None]
    assert asked == expected
    assert found.path is None
    assert found.candidates == ()
    assert found.tried
    for path in expected:
        assert any(str(path) in line for line in found.tried)


@pytest.mark.parametrize(
    ("there", "origin"),
    [
        ("/a/s/x.svs", "as stored"),
        ("/b/s/x.svs", "relative"),
        ("/b/q/x.svs", "beside"),
        ("/m/s/x.svs", "mapped"),
    ],
)
def test_resolve_returns_the_first_existing_place(there, origin):
    found = resolve(
        "file:/a/s/x.svs",
        project_folder=P("/b/q"),
        project_uri="file:/a/p/project.qpproj",
        slide_map={"/a": "/m"} if origin == "mapped" else {},
        exists=lambda path: str(path) == there,
        find=lambda name: pytest.fail("searched although it was found"),
        flavour="posix",
    )
    assert (str(found.path), found.origin) == (there, origin)
    assert found.tried[-1] == f"{origin}: {there}"


def test_resolve_takes_the_mapped_place_although_the_stored_one_exists():
    found = resolve(
        "file:/a/s/x.svs",
        project_folder=P("/b/q"),
        slide_map={"/z": "/n", "/a": "/m"},
        exists=lambda path: True,
        flavour="posix",
    )
    assert (found.path, found.origin) == (P("/m/s/x.svs"), "mapped")
    assert found.mapped == ("/a",)


def test_resolve_never_takes_the_old_place_if_the_new_one_is_empty():
    found = resolve(
        "file:/a/s/x.svs",
        project_folder=P("/b/q"),
        slide_map={"/a": "/m"},
        exists=lambda path: str(path) == "/a/s/x.svs",
        flavour="posix",
    )
    assert found.path is None
    assert found.tried == ("mapped: /m/s/x.svs",)


def _search(hits, uri="file:/C:/s/x%20y.svs"):
    asked = []
    found = resolve(
        uri,
        project_folder=P("/q"),
        exists=lambda path: False,
        find=lambda name: asked.append(name) or [P(hit) for hit in hits],
        flavour="posix",
    )
    assert asked == ["x y.svs"]
    return found


def test_resolve_search_accepts_only_a_single_file():
    one = _search(["/d/x y.svs"])
    assert (one.path, one.origin) == (P("/d/x y.svs"), "searched")
    assert one.candidates == ()
    none = _search([])
    assert none.path is None and "found no file" in none.tried[-1]
    two = _search(["/d/x y.svs", "/e/x y.svs"])
    assert two.path is None and two.origin is None
    assert two.candidates == (P("/d/x y.svs"), P("/e/x y.svs"))
    assert "found 2 files named 'x y.svs': /d/x y.svs, /e/x y.svs" in two.tried[-1]


@pytest.mark.parametrize(
    ("stored", "chosen"),
    [
        # The number of equal names at the end: 3 and 2, 2 and 3, 1 and 1.
        ("file:/E:/K/JAN02/x%20y.svs", "/d/K/JAN02/x y.svs"),
        ("file:/E:/K/trial/JAN02/x%20y.svs", "/d/K/trial/JAN02/x y.svs"),
        ("file:/E:/k/jan02/x%20y.svs", "/d/K/JAN02/x y.svs"),  # Windows ignores case
        ("file:/E:/K/FEB/x%20y.svs", None),
        # The drive is not the name of a folder.
        ("file:/JAN02/x%20y.svs", None),
    ],
)
def test_resolve_search_takes_the_file_with_the_longest_common_end(stored, chosen):
    there = ["/d/K/JAN02/x y.svs", "/d/K/trial/JAN02/x y.svs"]
    found = _search(there, stored)
    assert found.path == (chosen and P(chosen))
    assert len(found.candidates) == (0 if chosen else 2)


@pytest.mark.parametrize("name", ["nowhere", "a.svs"])
def test_folder_to_search_must_exist(tmp_path, name):
    (tmp_path / "a.svs").write_bytes(b"")
    with pytest.raises(UsageError, match=name) as caught:
        check_search_folder(tmp_path / name)
    assert caught.value.hint
    assert check_search_folder(str(tmp_path)) == tmp_path


def test_file_search_lists_folders_once(tmp_path: Path, monkeypatch):
    for name in (
        "a/x.svs",
        "a/deep/er/y.svs",
        "b/y.svs",
        "a/.cache/z.svs",
        "a/caf\u0065\u0301.svs",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    search = FileSearch([tmp_path / "a", tmp_path / "b", tmp_path / "a" / "deep"])
    assert search("x.svs") == [tmp_path / "a" / "x.svs"]
    # Reached by two of the folders, it is still one file.
    assert search("y.svs") == [tmp_path / "a/deep/er/y.svs", tmp_path / "b/y.svs"]
    assert search("z.svs") == []  # hidden
    assert len(search("caf\u00e9.svs")) == 1  # composed and decomposed accents are one name
    monkeypatch.setattr("os.walk", lambda *_: pytest.fail("walked again"))
    assert search("nothing.svs") == []

"""Contract of sources: every one lists the same slides and reads the same objects."""

from __future__ import annotations

import pickle
import shutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import pytest
import shapely

from qupath_bridge.errors import MissingDataError, ProjectError, UsageError
from qupath_bridge.model import (
    ClassInfo,
    ImageData,
    ObjectType,
    PixelSize,
    Plane,
    RoiKind,
    Slide,
    SourceRef,
)
from qupath_bridge.sources import open_source
from qupath_bridge.sources.base import Project, Source
from qupath_bridge.testing.projects import Image, Region, cropped, rotated, tree_hashes

__all__ = ["ProjectFileContract", "SourceContract"]

REGIONS = (
    Region("Tumor", shapely.box(10, 10, 500, 400), name="Region é 中", locked=True),
    Region("Tumor: Positive", "POLYGON ((20 20, 90 25, 60 80, 20 20))", parent=0),
    Region(
        "Stroma",
        "POLYGON ((600 600, 900 600, 900 900, 600 900, 600 600), "
        "(700 700, 800 700, 800 800, 700 700))",
        description="with a hole",
    ),
    Region(
        None,
        "MULTIPOLYGON (((0 0, 9 0, 9 9, 0 0)), ((20 0, 30 0, 30 10, 20 0)))",
        measurements={"a": 1.5},
        metadata={"key": "value"},
    ),
    Region("Immune cells", shapely.box(100, 100, 400, 300), ellipse=True, plane=(1, 2)),
    Region("Region*", "LINESTRING (0 0, 100 100)", color=-16776961),
    Region("Ignore*", "LINESTRING (0 0, 100 100, 200 50)"),
    Region("Other", "POINT (5 5)"),
    Region("Other", "MULTIPOINT ((5 5), (7 9.25))"),
    Region(None, shapely.box(0, 0, 256, 256), object_type=ObjectType.TILE),
    Region(
        "Tumor",
        shapely.box(20, 20, 40, 40),
        object_type=ObjectType.CELL,
        nucleus=shapely.box(25, 25, 30, 30),
        parent=1,
        measurements={"Nucleus: Area": 25.0},
    ),
    Region("Tumor", shapely.box(40, 40, 60, 60), object_type=ObjectType.DETECTION, parent=0),
    Region("Necrosis", shapely.box(42, 42, 50, 50), parent=11),
)

CLASSES = (ClassInfo("Tumor", -3670016), ClassInfo("Stroma", None), ClassInfo("Region*", -1))


def images(slide: Path) -> list[Image]:
    """Return the images of the project that the suite looks at."""
    return [
        Image(
            slide,
            REGIONS,
            name="one",
            size=(2000, 1000),
            size_z=3,
            size_t=4,
            pixel_size=(0.5, 0.4),
            magnification=20,
            levels=[(1, 2000, 1000), (4, 500, 250)],
            description="first line\nsecond line",
            metadata={"patient": "P1"},
            tags=("a", "b"),
            entry_id=3,
        ),
        Image(
            slide,
            [("Tumor", shapely.box(0, 0, 10, 10))],
            name="one",
            size=(2000, 1000),
            pixel_size=None,
            wrappers=[rotated(90), cropped(10, 20, 300, 400)],
            entry_id=7,
        ),
        Image(slide, [], name="nothing drawn", size=(2000, 1000), entry_id=8),
        Image(slide, name="never saved", size=(2000, 1000), entry_id=9, saved=False),
        Image(slide.with_name("gone.tiff"), name="no file", size=(20, 10), entry_id=10),
    ]


class SourceContract(ABC):
    """Subclass it, and say how a project of some images is made for the source.

    The source is in the registry under its ``name`` (entry point or ``registry.register``): the
    suite opens projects again by their :class:`~qupath_bridge.model.SourceRef`.
    """

    @abstractmethod
    def make(
        self, folder: Path, images: Sequence[Image], classes: Sequence[ClassInfo]
    ) -> tuple[Source, Path | str]:
        """Return a source, and the location under which it opens the project."""

    @pytest.fixture
    def slide(self, tmp_path: Path) -> Path:
        """Return a file that stands for a slide; sources do not look into it."""
        path = tmp_path / "slides" / "A slide [1] ä.tiff"
        path.parent.mkdir()
        path.write_bytes(b"no pixels")
        return path

    @pytest.fixture
    def opened(self, tmp_path: Path, slide: Path) -> Project:
        """Return the opened project."""
        source, location = self.make(tmp_path / "project", images(slide), CLASSES)
        return source.open(location)

    def test_slides_are_listed(self, opened: Project) -> None:
        """In the project's order, with all that can be said without reading data."""
        assert [slide.entry_id for slide in opened.slides] == ["3", "7", "8", "9", "10"]
        first = opened.slides[0]
        assert first.project is opened.info
        assert first.name == "one"
        assert first.description == "first line\nsecond line"
        assert first.metadata == {"patient": "P1"}
        assert first.tags == ("a", "b")
        assert (first.width, first.height) == (2000, 1000)
        assert (first.size_z, first.size_t) == (3, 4)
        assert first.pixel_size == PixelSize(0.5, 0.4, "project")
        assert first.magnification == 20.0
        assert first.levels == ((1.0, 2000, 1000), (4.0, 500, 250))
        assert first.channels == ("Red", "Green", "Blue")
        assert (first.pixel_type, first.is_rgb) == ("UINT8", True)

    def test_lookup_by_id_or_name(self, opened: Project) -> None:
        """Two slides may have one name; an ID is unique."""
        assert [slide.name for slide in opened.slides[:2]] == ["one", "one"]
        assert len(opened) == 5
        assert list(opened) == list(opened.slides)
        assert opened["7"] is opened[7] is opened["id:7"] is opened.slides[1]
        assert opened["never saved"] is opened.slides[3]
        with pytest.raises(UsageError, match=r"2 slides of .* have the name 'one'.*IDs: 3, 7"):
            opened["one"]
        with pytest.raises(UsageError, match="'never save'; there is 'never saved'"):
            opened["never save"]

    def test_source_reference(self, opened: Project) -> None:
        """A slide alone says where it comes from, and that can be opened again."""
        assert opened.ref.engine == opened.engine
        assert all(slide.project.source == opened.ref for slide in opened)
        ref = SourceRef.from_json(opened.ref.as_json())
        assert ref == opened.ref
        with open_source(ref) as again:
            assert (again.info, again.slides, again.ref) == (opened.info, opened.slides, ref)
            assert again.slides[0].read() == opened.slides[0].read()

    def test_project_can_be_pickled(self, opened: Project) -> None:
        """The copy is equal, and reads the same, also before and after the first was closed."""
        before = [slide.read(detections=True) for slide in opened]
        with pickle.loads(pickle.dumps(opened)) as copy:  # noqa: S301
            assert copy == opened
            assert [slide.read(detections=True) for slide in copy] == before
        data = pickle.dumps(opened)
        opened.close()
        with pickle.loads(data) as copy:  # noqa: S301
            assert copy.slides[0].read(detections=True) == before[0]

    def test_slide_can_be_pickled(self, opened: Project) -> None:
        """Alone, without its project."""
        copy: Slide = pickle.loads(pickle.dumps(opened.slides[0]))  # noqa: S301
        assert copy == opened.slides[0]
        assert hash(copy) == hash(opened.slides[0])
        assert copy.project.source == opened.ref
        assert copy.read(detections=True) == opened.slides[0].read(detections=True)

    def test_image_data_can_be_pickled(self, opened: Project) -> None:
        """What was read is a value."""
        for slide in opened:
            data = slide.read(detections=True)
            assert pickle.loads(pickle.dumps(data)) == data  # noqa: S301

    def test_reprs_are_one_short_line(self, opened: Project) -> None:
        """Of a project and of everything in it."""
        data = opened.slides[0].read(detections=True)
        rois = [each.roi for each in data.objects]
        parts = (slide.builder for slide in opened)
        for value in (opened, opened.info, opened.ref, *opened, *parts, data, *data.objects, *rois):
            assert len(repr(value)) <= 200
            assert "\n" not in repr(value)
        assert "'A slide" not in repr(opened)

    def test_values_cannot_be_changed(self, opened: Project) -> None:
        """Neither their fields nor the mappings in them."""
        slide = opened.slides[0]
        with pytest.raises(AttributeError):
            slide.name = "x"  # type: ignore[misc]
        (first, *_) = [o for o in slide.read().objects if o.measurements]
        for mapping in (slide.metadata, opened.info.metadata, first.metadata, first.measurements):
            with pytest.raises(TypeError):
                mapping["x"] = "y"  # type: ignore[index]

    def test_the_builder_is_as_it_stands(self, opened: Project) -> None:
        """And the size is that of the outermost image."""
        second = opened.slides[1]
        builder = second.builder.json
        assert builder["builderType"] == "cropped"
        assert builder["region"]["y"] == 20
        assert builder["builder"]["rotation"] == "ROTATE_90"
        assert (second.width, second.height) == (300, 400)
        assert second.pixel_size is None
        with pytest.raises(TypeError):
            builder["builderType"] = "x"  # type: ignore[index]

    def test_slides_are_found(self, opened: Project, slide: Path) -> None:
        """Or it is said where they were looked for."""
        found, missing = opened.slides[0], opened.slides[4]
        assert found.path == slide
        assert found.path_origin == "as stored"
        assert missing.path is None
        assert missing.path_origin is None
        assert any("gone.tiff" in place for place in missing.tried)

    def test_classes(self, opened: Project) -> None:
        """With their colours, in the project's order."""
        assert opened.info.classes == CLASSES

    def test_class_names_lose_only_the_white_space_of_java(
        self, tmp_path: Path, slide: Path
    ) -> None:
        """A no-break space is a part of a name, in data and in the project's class list."""
        names = ("Tumeur\N{NO-BREAK SPACE}", "Tumeur", "\N{FIGURE SPACE}x: y\N{NEXT LINE}")
        image = Image(slide, [(name, shapely.box(0, 0, 9, 9)) for name in names], size=(20, 10))
        source, location = self.make(
            tmp_path / "project", [image], [ClassInfo(name) for name in names]
        )
        with source.open(location) as project:
            assert tuple(each.path for each in project.info.classes) == names
            found = project.slides[0].read().annotations
            assert tuple(each.class_path for each in found) == names

    def test_annotations(self, opened: Project) -> None:
        """Are all there, parents first, each as it was drawn."""
        data = opened.slides[0].read()
        assert data.image_type == "BRIGHTFIELD_H_E"
        shown = [(a.class_path, a.roi and a.roi.kind, a.parent) for a in data.objects]
        assert shown == [
            ("Tumor", RoiKind.RECTANGLE, -1),
            ("Tumor: Positive", RoiKind.POLYGON, 0),
            ("Necrosis", RoiKind.RECTANGLE, 0),  # below a detection, which is not listed
            ("Stroma", RoiKind.GEOMETRY, -1),
            (None, RoiKind.GEOMETRY, -1),
            ("Immune cells", RoiKind.ELLIPSE, -1),
            ("Region*", RoiKind.LINE, -1),
            ("Ignore*", RoiKind.POLYLINE, -1),
            ("Other", RoiKind.POINTS, -1),
            ("Other", RoiKind.POINTS, -1),
        ]
        assert data.annotations == data.objects
        first, positive, _, stroma, parts, ellipse, line = data.objects[:7]
        assert (first.name, first.locked) == ("Region é 中", True)
        assert not positive.locked
        assert positive.parent_id == first.id
        assert stroma.description == "with a hole"
        assert parts.measurements == {"a": 1.5}
        assert parts.metadata == {"key": "value"}
        assert line.color == -16776961
        assert ellipse.roi is not None
        assert ellipse.roi.plane == Plane(1, 2)
        assert all(a.id_origin == "qupath" for a in data.objects)
        assert len({a.id for a in data.objects}) == 10

    def test_shapes_are_equal(self, opened: Project) -> None:
        """To those that were drawn, on the canonical grid."""
        read = {a.roi.geometry.wkt for a in opened.slides[0].read().annotations if a.roi}
        for region in REGIONS:
            if region.object_type is ObjectType.ANNOTATION and not region.ellipse:
                shape = region.shape
                drawn = shapely.from_wkt(shape) if isinstance(shape, str) else shape
                assert any(drawn.equals(shapely.from_wkt(wkt)) for wkt in read), drawn

    def test_detections_come_when_asked_for(self, opened: Project) -> None:
        """And are counted when not."""
        slide = opened.slides[0]
        assert slide.read().skipped == {
            ObjectType.TILE: 1, ObjectType.CELL: 1, ObjectType.DETECTION: 1,
        }  # fmt: skip
        data = slide.read(detections=True)
        assert not data.skipped
        assert [o.object_type for o in data.objects].count(ObjectType.ANNOTATION) == 10
        assert len(data.objects) == len(REGIONS)
        (cell,) = (o for o in data.objects if o.object_type is ObjectType.CELL)
        assert cell.nucleus is not None
        assert cell.nucleus.geometry.area == 25
        assert cell.measurements == {"Nucleus: Area": 25.0}
        assert data.objects[cell.parent].class_path == "Tumor: Positive"
        (necrosis,) = (o for o in data.objects if o.class_path == "Necrosis")
        assert data.objects[necrosis.parent].object_type is ObjectType.DETECTION

    def test_nothing_is_empty(self, opened: Project) -> None:
        """An image without objects, and one that was never saved."""
        assert opened.slides[2].read().objects == ()
        assert opened.slides[3].read(detections=True) == ImageData()

    def test_reading_twice_gives_the_same(self, opened: Project) -> None:
        """And one image does not depend on another."""
        once = [slide.read(detections=True) for slide in opened.slides]
        again = [slide.read(detections=True) for slide in reversed(opened.slides)]
        assert once == again[::-1]

    def test_a_project_without_images(self, tmp_path: Path) -> None:
        """Is a project."""
        source, location = self.make(tmp_path / "project", [], ())
        with source.open(location) as project:
            assert project.slides == ()
            assert project.info.classes == ()
            assert project.engine == source.name

    def test_no_project_there(self, tmp_path: Path) -> None:
        """Is an error that names the place."""
        source, _ = self.make(tmp_path / "project", [], ())
        with pytest.raises(ProjectError, match="nowhere") as caught:
            source.open(tmp_path / "nowhere.qpproj")
        assert caught.value.path == tmp_path / "nowhere.qpproj"

    def test_nothing_is_changed(self, tmp_path: Path, slide: Path) -> None:
        """By opening and reading everything."""
        source, location = self.make(tmp_path / "project", images(slide), CLASSES)
        before = tree_hashes(tmp_path)
        with source.open(location, slide_map={"/a": "/b"}, search=[tmp_path]) as project:
            for each in project.slides:
                each.read(detections=True)
        assert tree_hashes(tmp_path) == before


class ProjectFileContract(SourceContract):
    """Contract of sources that open QuPath's project files; ``make`` returns such a file."""

    def test_folder_stands_for_its_project(self, tmp_path: Path, slide: Path) -> None:
        """Where it holds one project."""
        source, path = self.make(tmp_path / "project", images(slide), CLASSES)
        with source.open(Path(path).parent) as by_folder, source.open(path) as by_file:
            assert by_folder.info == by_file.info
            assert by_folder.ref == by_file.ref

    def test_folder_of_data_that_is_missing_is_an_error(self, tmp_path: Path, slide: Path) -> None:
        """Never a slide without annotations; the other slides can be read."""
        source, path = self.make(tmp_path / "project", images(slide), CLASSES)
        data = Path(path).parent / "data"
        shutil.rmtree(data / "3")
        with source.open(path) as project:
            assert project.problems == ()
            with pytest.raises(MissingDataError, match="Copy the folder data/3") as caught:
                project["3"].read()
            assert caught.value.path == data / "3"
            assert len(project["7"].read().annotations) == 1
            assert project["9"].read() == ImageData()
        shutil.rmtree(data)
        with source.open(path) as project:
            (problem,) = project.problems
            assert str(data) in problem
            with pytest.raises(MissingDataError, match="Copy the folder data from") as caught:
                project["9"].read()
            assert caught.value.whole_project

    def test_source_reference_keeps_places(self, tmp_path: Path, slide: Path) -> None:
        """What was needed to find the slides is needed again."""
        source, path = self.make(tmp_path / "project", images(slide), CLASSES)
        found = slide.rename(tmp_path / slide.name)
        with source.open(str(path), slide_map={"/a": "/b"}, search=[tmp_path]) as project:
            assert project.slides[0].path == found
            assert project.ref.location == str(path)
            assert (project.ref.slide_map, project.ref.search) == ({"/a": "/b"}, (str(tmp_path),))
            with open_source(project.ref) as again:
                assert (again.info, again.slides, again.ref) == (
                    project.info,
                    project.slides,
                    project.ref,
                )

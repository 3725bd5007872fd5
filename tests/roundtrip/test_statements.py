"""The table of cases: which difference is a statement, which is unsure, and which is nothing."""

import uuid
from dataclasses import dataclass, field, replace

import pytest
import shapely

from qupath_bridge.model import LabelRule, ObjectType, PathObject, Plane, Roi, RoiKind
from qupath_bridge.patches.corrections import (
    Correction,
    latest_by_reviewer,
    latest_corrections,
)
from qupath_bridge.patches.ids import patch_id, tile_uuid
from qupath_bridge.qupath.geojson import Tile
from qupath_bridge.roundtrip.shown import Layer, ShownEvent, layers_of, next_key, state_of
from qupath_bridge.roundtrip.statements import compare, find_last_shown, shown_now
from qupath_bridge.roundtrip.tile_tables import REVIEWED, DataTiles, RunTiles, split_labels

ENTRY, SLIDE, SIDE = "1", "1_slide", 100
TIME = "2026-01-02T03:04:05.678Z"


def identity(number):
    return tile_uuid(ENTRY, number * SIDE, 0, SIDE, SIDE)


def tile(number, class_path, run, *, share=0.5, **metadata):
    return Tile(
        identity(number),
        (number * SIDE, 0, SIDE, SIDE),
        Plane(0, 0),
        patch_id(SLIDE, number * SIDE, 0),
        class_path,
        measurements={"qb: label share": share},
        metadata={"qb.run": run, **metadata},
    )


def run_tiles(run, classes, *, share=0.5, rule=None, labels=(), rules=None):
    """Return what a run wrote: its class of each box, by the number of the box."""
    tiles = (
        tile(
            i, c, run, share=share, **({"qb.rule label": rules[i]} if rules and i in rules else {})
        )
        for i, c in classes.items()
    )
    return RunTiles.of(run, tiles, fingerprint="F", rule=rule, labels=frozenset(labels))


def objects(tiles, *, metadata=True, reviewed=(), new_ids=(), said=None):
    """Return tiles as the objects of a slide's data.

    ``said`` has by the number of a box the class that each person gave the tile in the panel.
    """
    people = {identity(i): words for i, words in (said or {}).items()}
    made = []
    for number, each in enumerate(tiles):
        x, y, w, h = each.box
        is_marked = each.id in people or each.id in map(identity, reviewed)
        marked = {REVIEWED: 1.0} if is_marked else {}
        words = {f"qb.said {who}": c or "" for who, c in people.get(each.id, {}).items()}
        made.append(
            PathObject(
                str(uuid.UUID(int=77 + number)) if each.id in map(identity, new_ids) else each.id,
                ObjectType.TILE,
                each.class_path,
                each.name,
                Roi(RoiKind.RECTANGLE, shapely.box(x, y, x + w, y + h), each.plane),
                measurements={**each.measurements, **marked},
                metadata={**(each.metadata if metadata else {}), **words},
            )
        )
    return made


@dataclass
class World:
    """What one slide has shown, what its data are now, and what was said before."""

    runs: dict[str, RunTiles]
    events: list[ShownEvent] = field(default_factory=list)
    standing: dict[int, Correction] = field(default_factory=dict)
    stored: list[Correction] = field(default_factory=list)

    def tiles(self, run, changes=None, missing=()):
        """Return the tiles of a run as they are in the data, some with another class."""
        table = self.runs[run]
        numbers = [x // SIDE for x in table.places[:, 0].tolist()]
        share = 0.5 if run != "R2" else 0.25
        return [
            tile(i, (changes or {}).get(i, table.class_of(identity(i))), run, share=share)
            for i in numbers
            if i not in missing
        ]

    def event(self, action, origins, classes=None):
        state = {identity(i): run for i, run in origins.items()}
        self.events.append(
            ShownEvent(
                action,
                None,
                layers_of(state, self.runs.get),
                {identity(i): c for i, c in (classes or {}).items()},
                key=next_key(e.key for e in self.events),
            )
        )
        return self

    def shows(self, run):
        return self.event("show", dict.fromkeys(numbers_of(self.runs[run]), run))

    def seen(self, items):
        data = DataTiles.of(ENTRY, items, {SLIDE})
        last = find_last_shown(self.events, data, self.runs.get)
        origins = data.origins(self.runs.get, sorted(self.runs))
        standing = {identity(i): said for i, said in self.standing.items()}
        spoken = {
            identity(box[0] // SIDE): words
            for (box, _), words in latest_by_reviewer(self.stored).items()
        }
        found = compare(
            data, origins, last, self.runs.get, standing, spoken, time=TIME, reviewer="Ann"
        )
        return data, last, origins, found

    def said(self, items):
        """Return the statements and what is unsure: kind, before and after by number of box."""
        found = self.seen(items)[3]
        return short(found.statements), short(found.unsure)

    def collected(self, items):
        """Store what is said, as a collection does; return the statements."""
        data, last, origins, found = self.seen(items)
        self.stored += found.new
        latest = latest_corrections(self.stored)
        self.standing = {box[0] // SIDE: said for (box, _), said in latest.items()}
        state, classes = shown_now(data, origins, last, self.runs.get, found.unsure)
        event = ShownEvent("collect", None, layers_of(state, self.runs.get), classes)
        if not event.shows_as(last.event):
            self.events.append(replace(event, key=next_key(e.key for e in self.events)))
        return short(found.statements)


def words_of(world, items):
    """Collect, and return who said what of which box, in the order in which it is kept."""
    before = len(world.stored)
    world.collected(items)
    return [
        (c.box[0] // SIDE, c.reviewer, c.kind, c.before, c.after) for c in world.stored[before:]
    ]


def numbers_of(table):
    return [x // SIDE for x in table.places[:, 0].tolist()]


def short(found):
    return {c.box[0] // SIDE: (c.kind, c.before, c.after) for c in found.values()}


def plain(number=30, other=None):
    """A run R1 of so many boxes, all Tumor, that was put in and saved."""
    classes = {i: (other or {}).get(i, "Tumor") for i in range(number)}
    return World({"R1": run_tiles("R1", classes)}).shows("R1")


def said_before(kind, number, after, *, before="Tumor", run="R1"):
    return Correction(
        kind, (number * SIDE, 0, SIDE, SIDE), before, after, run, "Tumor", "F", TIME, Plane()
    )


NOTHING = ({}, {})


# --- single tiles --------------------------------------------------------------------------------


def test_no_difference_says_nothing():
    world = plain()
    assert world.said(objects(world.tiles("R1"))) == NOTHING


def test_every_field_of_a_statement():
    world = plain()
    items = objects(world.tiles("R1", {3: "Stroma"}))
    (said,) = world.seen(items)[3].statements.values()
    assert said == Correction(
        "corrected", (300, 0, 100, 100), "Tumor", "Stroma", "R1", "Tumor", "F", TIME, Plane(),
        "Ann",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("now", "kind"),
    [
        ("Stroma", "corrected"),
        (None, "corrected"),
        ("Tumor: Positive", "corrected"),  # a derived class
        ("Region*", "corrected"),  # refused where it is applied
        ("Ignore*", "rejected"),
        ("Fold", "rejected"),  # a class that the run excludes
    ],
)
def test_another_class(now, kind):
    rule = LabelRule(exclude=("Fold",))
    world = World({"R1": run_tiles("R1", dict.fromkeys(range(30), "Tumor"), rule=rule)})
    world.shows("R1")
    items = objects(world.tiles("R1", {3: now}))
    assert world.said(items) == ({3: (kind, "Tumor", now)}, {})
    assert world.collected(items) == {3: (kind, "Tumor", now)}
    assert world.collected(items) == {}  # collecting twice says nothing new


def test_a_deleted_tile_is_rejected():
    world = plain()
    items = objects(world.tiles("R1", missing=[3]))
    assert world.collected(items) == {3: ("rejected", "Tumor", None)}
    assert world.collected(items) == {}


def test_a_correction_that_is_taken_back_is_withdrawn():
    world = plain()
    world.collected(objects(world.tiles("R1", {3: "Stroma"})))
    back = objects(world.tiles("R1"))
    assert world.collected(back) == {3: ("withdrawn", "Stroma", "Tumor")}
    assert world.collected(back) == {}


def test_a_rejected_tile_that_comes_back_is_withdrawn():
    world = plain()
    world.collected(objects(world.tiles("R1", missing=[3])))
    assert world.collected(objects(world.tiles("R1"))) == {3: ("withdrawn", None, "Tumor")}


def test_a_correction_of_a_correction():
    world = plain()
    world.collected(objects(world.tiles("R1", {3: "Stroma"})))
    again = objects(world.tiles("R1", {3: "Necrosis"}))
    assert world.collected(again) == {3: ("corrected", "Stroma", "Necrosis")}


def test_names_colours_and_numbers_are_no_statements():
    world = plain()
    items = [
        replace(each, name="mine", color=-1, locked=True, measurements={"qb pred X: p": 0.5})
        for each in objects(world.tiles("R1"))
    ]
    assert world.said(items) == NOTHING


# --- the review panel ----------------------------------------------------------------------------


def test_marks_of_the_review_panel():
    world = plain()
    items = objects(world.tiles("R1", {3: "Stroma", 4: "Ignore*"}), reviewed=[2, 3, 4])
    assert world.collected(items) == {
        2: ("confirmed", "Tumor", "Tumor"),
        3: ("corrected", "Tumor", "Stroma"),
        4: ("rejected", "Tumor", "Ignore*"),
    }
    assert world.collected(items) == {}


def test_a_confirmed_class_that_a_later_run_changed_can_be_corrected_back():
    """A confirmation gives no label, so that the class that was confirmed is a correction now."""
    world = plain()
    world.standing[3] = said_before("confirmed", 3, "Stroma", before="Stroma", run="R0")
    items = objects(world.tiles("R1", {3: "Stroma"}))
    assert world.collected(items) == {3: ("corrected", "Tumor", "Stroma")}
    assert world.collected(items) == {}


def test_marked_tiles_are_never_too_many():
    world = plain(200)
    changes = dict.fromkeys(range(150), "Stroma")
    sure, unsure = world.said(objects(world.tiles("R1", changes), reviewed=range(150)))
    assert (len(sure), unsure) == (150, {})


def test_a_second_person_who_confirms_is_seen():
    """Both press Enter on the same tile; the mark was there already."""
    world = plain()
    said = {"Ann": "Tumor"}
    assert words_of(world, objects(world.tiles("R1"), said={3: said})) == [
        (3, "Ann", "confirmed", "Tumor", "Tumor")
    ]
    items = objects(world.tiles("R1"), said={3: {**said, "Bob": "Tumor"}})
    assert words_of(world, items) == [(3, "Bob", "confirmed", "Tumor", "Tumor")]
    assert words_of(world, items) == []


def test_two_people_before_anything_is_collected_are_both_heard():
    world = plain()
    items = objects(
        world.tiles("R1", {3: "Stroma", 4: "Ignore*"}),
        said={
            2: {"Ann": "Tumor", "Bob": "Tumor"},
            3: {"Ann": "Tumor", "Bob": "Stroma"},
            4: {"Ann": "Fat", "Bob": "Ignore*"},
        },
    )
    assert sorted(words_of(world, items)) == [
        (2, "Ann", "confirmed", "Tumor", "Tumor"),
        (2, "Bob", "confirmed", "Tumor", "Tumor"),
        (3, "Ann", "confirmed", "Tumor", "Tumor"),
        (3, "Bob", "corrected", "Tumor", "Stroma"),
        (4, "Ann", "corrected", "Tumor", "Fat"),
        (4, "Bob", "rejected", "Tumor", "Ignore*"),
    ]
    # The class that the tile has is the last word.
    assert {i: (c.kind, c.after) for i, c in world.standing.items()} == {
        2: ("confirmed", "Tumor"), 3: ("corrected", "Stroma"), 4: ("rejected", "Ignore*"),
    }  # fmt: skip
    assert words_of(world, items) == []


def test_who_agrees_with_a_correction_confirms_it_and_it_stays():
    world = plain()
    changed = world.tiles("R1", {3: "Stroma"})
    words_of(world, objects(changed, said={3: {"Ann": "Stroma"}}))
    items = objects(changed, said={3: {"Ann": "Stroma", "Bob": "Stroma"}})
    assert words_of(world, items) == [(3, "Bob", "confirmed", "Stroma", "Stroma")]
    assert (world.standing[3].kind, world.standing[3].after) == ("corrected", "Stroma")


def test_the_name_in_a_tile_counts_whoever_collects():
    world = plain()
    changes = {3: "Stroma", 4: "Fat"}
    items = objects(world.tiles("R1", changes), said={3: {"Bob": "Stroma"}})
    assert sorted(words_of(world, items)) == [
        (3, "Bob", "corrected", "Tumor", "Stroma"), (4, "Ann", "corrected", "Tumor", "Fat"),
    ]  # fmt: skip


def test_who_was_overruled_does_not_overrule():
    """Bob spoke and Cid repeated what she had said before; the tile has Cid's class."""
    world = plain()
    changed = world.tiles("R1", {3: "Stroma"})
    words_of(world, objects(changed, said={3: {"Cid": "Stroma"}}))
    items = objects(changed, said={3: {"Cid": "Stroma", "Bob": None}})
    assert words_of(world, items) == [
        (3, "Bob", "corrected", "Stroma", None), (3, "Cid", "confirmed", "Stroma", "Stroma"),
    ]  # fmt: skip
    assert world.standing[3].after == "Stroma"
    assert words_of(world, items) == []


def test_a_class_that_was_given_without_the_panel_is_of_who_collects():
    world = plain()
    words_of(world, objects(world.tiles("R1"), said={3: {"Bob": "Tumor"}}))
    items = objects(world.tiles("R1", {3: "Fat"}), said={3: {"Bob": "Tumor"}})
    assert words_of(world, items) == [(3, "Ann", "corrected", "Tumor", "Fat")]
    assert words_of(world, items) == []


# --- accidents -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("shown", "most"), [(30, 20), (400, 20), (1000, 50)])
def test_missing_tiles_are_rejected_up_to_a_limit(shown, most):
    """20, or 5 % of what is shown."""
    world = plain(shown)
    sure, unsure = world.said(objects(world.tiles("R1", missing=range(most))))
    assert (len(sure), len(unsure)) == (most, 0)
    sure, unsure = world.said(objects(world.tiles("R1", missing=range(most + 1))))
    assert (len(sure), len(unsure)) == (0, most + 1)
    assert set(unsure.values()) == {("rejected", "Tumor", None)}


@pytest.mark.parametrize(("shown", "most"), [(60, 50), (250, 50), (1000, 200)])
def test_other_classes_are_corrections_up_to_a_limit(shown, most):
    """50, or 20 % of what is shown: more is an object classifier, or reset classifications."""
    world = plain(shown)
    sure, unsure = world.said(objects(world.tiles("R1", dict.fromkeys(range(most), None))))
    assert (len(sure), len(unsure)) == (most, 0)
    sure, unsure = world.said(objects(world.tiles("R1", dict.fromkeys(range(most + 1), None))))
    assert (len(sure), len(unsure)) == (0, most + 1)


def test_what_is_unsure_stays_unsure():
    world = plain(100)
    items = objects(world.tiles("R1", dict.fromkeys(range(60), "Stroma"), missing=range(60, 90)))
    for _ in range(2):
        assert world.collected(items) == {}
        assert len(world.said(items)[1]) == 90


def test_delete_all_detections_says_nothing():
    """Nothing of the newest event is in the data: it may never have been saved."""
    assert plain().said([]) == NOTHING


def test_an_import_that_was_never_saved():
    """The second run took the place of the first on the screen; the data still have the first."""
    world = World(
        {
            "R1": run_tiles("R1", dict.fromkeys(range(30), "Tumor")),
            "R2": run_tiles("R2", dict.fromkeys(range(45), "Stroma"), share=0.25),
        }
    )
    world.shows("R1").shows("R2")
    for metadata in (True, False):
        items = objects(world.tiles("R1", {3: "Necrosis"}, missing=[4]), metadata=metadata)
        last = world.seen(items)[1]
        assert (last.event, last.unsaved) == (world.events[0], (world.events[1],))
        assert world.said(items) == (
            {3: ("corrected", "Tumor", "Necrosis"), 4: ("rejected", "Tumor", None)}, {},
        )  # fmt: skip
        saved = objects(world.tiles("R2", {3: "Necrosis"}, missing=[4]), metadata=metadata)
        assert world.seen(saved)[1].event == world.events[1]
        assert world.said(saved) == (
            {3: ("corrected", "Stroma", "Necrosis"), 4: ("rejected", "Stroma", None)}, {},
        )  # fmt: skip


def test_a_removal_that_was_never_saved():
    world = plain()
    world.event("remove", {})
    assert world.seen(objects(world.tiles("R1", missing=[4])))[1].event == world.events[0]
    assert world.said(objects(world.tiles("R1", missing=[4]))) == (
        {4: ("rejected", "Tumor", None)}, {},
    )  # fmt: skip
    assert world.said([]) == NOTHING
    assert world.seen([])[1].event == world.events[1]


def test_a_dismissed_class_that_is_taken_back_says_nothing():
    """The event has it as shown, but nobody meant it: there is nothing to withdraw."""
    world = plain()
    world.event("dismiss", dict.fromkeys(range(30), "R1"), {3: "Stroma"})
    assert world.said(objects(world.tiles("R1", {3: "Stroma"}))) == NOTHING
    assert world.said(objects(world.tiles("R1"))) == NOTHING


# --- two runs ------------------------------------------------------------------------------------


def test_two_runs_that_share_a_tile():
    """The one that was put in last is shown; each tile is compared with its own run."""
    world = World(
        {
            "R1": run_tiles("R1", dict.fromkeys(range(20), "Tumor")),
            "R2": run_tiles("R2", dict.fromkeys(range(15, 40), "Stroma"), share=0.25),
        }
    )
    origins = {**dict.fromkeys(range(20), "R1"), **dict.fromkeys(range(15, 40), "R2")}
    world.shows("R1").event("show", origins)
    items = objects([*world.tiles("R1", missing=range(15, 20)), *world.tiles("R2", {16: "Tumor"})])
    assert world.said(items) == ({16: ("corrected", "Stroma", "Tumor")}, {})


def test_a_correction_that_an_import_kept():
    """The event says so: the same class is nothing new, and that of the run is withdrawn."""
    world = plain()
    world.standing[3] = said_before("corrected", 3, "Stroma")
    world.event("show", dict.fromkeys(range(30), "R1"), {3: "Stroma"})
    assert world.said(objects(world.tiles("R1", {3: "Stroma"}))) == NOTHING
    assert world.said(objects(world.tiles("R1"))) == ({3: ("withdrawn", "Stroma", "Tumor")}, {})


def test_the_corrections_of_another_person_are_not_withdrawn_by_data_that_never_had_them():
    """Ann corrected and rejected in a copy of the project; Bob's data show what the run wrote."""
    world = plain()
    world.standing = {
        3: said_before("corrected", 3, "Stroma"), 4: said_before("rejected", 4, None),
    }  # fmt: skip
    assert world.said(objects(world.tiles("R1"))) == NOTHING
    same = objects(world.tiles("R1", {3: "Stroma"}, missing=[4]))
    agreed = {3: ("corrected", "Tumor", "Stroma"), 4: ("rejected", "Tumor", None)}
    assert world.said(same) == (agreed, {})  # agreement is a statement
    world.standing = {i: replace(said, reviewer="Ann") for i, said in world.standing.items()}
    assert world.said(same) == NOTHING
    assert world.said(objects(world.tiles("R1", {3: "Necrosis"}))) == (
        {3: ("corrected", "Tumor", "Necrosis")}, {},
    )  # fmt: skip


def test_a_correction_that_was_overruled_is_not_said_again():
    """The run's class was shown again; the file of the correction stays."""
    world = plain()
    world.standing[3] = said_before("corrected", 3, "Stroma")
    world.event("show", dict.fromkeys(range(30), "R1"))
    assert world.said(objects(world.tiles("R1"))) == NOTHING


# --- tiles that are not where they belong --------------------------------------------------------


def test_fresh_ids_are_known_by_name_and_box():
    world = plain()
    items = objects(world.tiles("R1", {3: "Stroma"}), new_ids=[3, 5])
    data = world.seen(items)[0]
    assert data.fresh.keys() == {identity(3), identity(5)}
    assert world.said(items) == ({3: ("corrected", "Tumor", "Stroma")}, {})
    other = [replace(each, name="1_other_x300_y0") for each in items]
    assert identity(3) not in world.seen(other)[0].rows


def test_a_tile_with_a_new_id_beside_the_right_one_does_not_count():
    world = plain()
    items = objects(world.tiles("R1"))
    double = replace(items[3], id=str(uuid.UUID(int=5)), class_path="Stroma")
    data = world.seen([*items, double])[0]
    assert (data.doubled, data.fresh) == (1, {})
    assert world.said([*items, double]) == NOTHING


def test_tiles_of_a_duplicated_image_are_counted():
    """The copy has another entry ID: no id fits it."""
    items = objects(plain().tiles("R1", {3: "Stroma"}))
    data = DataTiles.of("2", items, {"2_copy"})
    assert (len(data.foreign), len(data.rows)) == (30, 0)


def test_a_moved_tile_is_neither_missing_nor_corrected():
    world = plain()
    items = objects(world.tiles("R1"))
    x, y, x2, y2 = items[3].roi.geometry.bounds
    items[3] = replace(
        items[3],
        class_path="Stroma",
        roi=Roi(RoiKind.RECTANGLE, shapely.box(x + 7, y, x2 + 7, y2)),
    )
    assert world.said(items) == NOTHING


# --- without metadata, without events ------------------------------------------------------------


def test_without_metadata_the_measurements_tell_the_run():
    """QuPath 0.4 and 0.5. Numbers count with 32 bits, as QuPath keeps them."""
    world = World(
        {
            "R1": run_tiles("R1", dict.fromkeys(range(30), "Tumor"), share=0.1),
            "R2": run_tiles("R2", dict.fromkeys(range(30), "Stroma"), share=0.1001),
        }
    )
    stored = 0.10000000149011612  # 0.1 with 32 bits
    items = objects([tile(i, "Stroma", "", share=stored) for i in range(30)], metadata=False)
    assert set(world.seen(items)[2].values()) == {"R1"}
    marked = objects(
        [tile(i, "Stroma", "", share=stored) for i in range(30)], metadata=False, reviewed=[3]
    )
    assert set(world.seen(marked)[2].values()) == {"R1"}
    other = objects([tile(i, "Stroma", "", share=0.7) for i in range(30)], metadata=False)
    assert set(world.seen(other)[2].values()) == {"R2"}  # the newest that lists them


def test_without_metadata_older_runs_are_not_read_for_nothing():
    """One that is damaged would be in the way."""
    world = plain()
    data = world.seen(objects(world.tiles("R1"), metadata=False))[0]
    read = []
    found = data.origins(lambda run: read.append(run) or world.runs.get(run), ["R0", "R1"])
    assert (set(found.values()), set(read)) == ({"R1"}, {"R1"})


def test_without_an_event_classes_are_compared_and_missing_tiles_say_nothing():
    world = plain()
    world.events.clear()
    assert world.said(objects(world.tiles("R1", {3: "Stroma"}, missing=[4]))) == (
        {3: ("corrected", "Tumor", "Stroma")}, {},
    )  # fmt: skip


def test_the_tiles_of_an_unknown_run_say_nothing():
    world = plain()
    items = objects(world.tiles("R1", {3: "Stroma"}))
    del world.runs["R1"]
    assert world.said(items) == NOTHING


# --- labels --------------------------------------------------------------------------------------


def test_list_labels():
    rule = LabelRule(rule="any")
    labels = {"Stroma", "Tumor", "Tumor: Positive"}
    table = run_tiles(
        "R1", {0: "Stroma: Tumor: Positive", 1: None, 2: "Tumor"}, rule=rule, labels=labels
    )
    assert [table.rule_label(identity(i)) for i in range(3)] == [
        ("Stroma", "Tumor: Positive"), None, ("Tumor",),
    ]  # fmt: skip
    assert split_labels("Tumor: Negative", labels) == ("Tumor: Negative",)


def test_the_rule_s_word_where_a_person_overruled_it():
    table = run_tiles("R1", {0: "Stroma", 1: "Stroma"}, rules={0: "Tumor", 1: ""})
    assert [table.rule_label(identity(i)) for i in range(2)] == ["Tumor", None]


# --- events --------------------------------------------------------------------------------------


def test_layers_are_small_and_give_the_same_tiles_back():
    runs = {
        "R1": run_tiles("R1", dict.fromkeys(range(1000), "Tumor")),
        "R2": run_tiles("R2", dict.fromkeys(range(500, 1500), "Stroma")),
        "R3": run_tiles("R3", dict.fromkeys(range(2000), "Stroma")),
    }
    state = {
        **dict.fromkeys(range(1, 1000), "R1"), **dict.fromkeys(range(500, 1500), "R2"), 1700: "R3",
    }  # fmt: skip
    origins = {identity(i): run for i, run in state.items()}
    layers = layers_of(origins, runs.get)
    assert state_of(ShownEvent("show", None, layers), runs.get) == origins
    assert {each.run_id: each for each in layers} == {
        "R1": Layer("R1", without=(identity(0),)),
        "R2": Layer("R2"),
        "R3": Layer("R3", only=(identity(1700),)),
    }


def test_an_old_run_over_a_new_one_needs_no_exceptions():
    runs = {
        "R1": run_tiles("R1", dict.fromkeys(range(1000), "Tumor")),
        "R2": run_tiles("R2", dict.fromkeys(range(500, 1500), "Stroma")),
    }
    state = {**dict.fromkeys(range(1000, 1500), "R2"), **dict.fromkeys(range(1000), "R1")}
    origins = {identity(i): run for i, run in state.items()}
    assert layers_of(origins, runs.get) == (Layer("R2"), Layer("R1"))


def test_keys_are_ordered_whatever_the_clocks_say():
    later = "7ZZZZZZZZZ" + "Z" * 16
    assert next_key([]) < next_key([later[:-1] + "A"]) == later[:-1] + "B"

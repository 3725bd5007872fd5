"""What QuPath does to the values of pixels, against its formulas worked out one pixel at a time."""

import math
import pickle
from fractions import Fraction

import numpy as np
import pytest

from qupath_bridge.errors import CoordinateError
from qupath_bridge.pixels.builder_steps import Shown, step_of
from qupath_bridge.pixels.steps import NO_STEPS, Convert, PixelSteps, Transform, Transforms

RGB = Shown(("Red", "Green", "Blue"), ((255, 0, 0), (0, 255, 0), (0, 0, 255)), "uint8", color=True)
FOUR = Shown(("DAPI", "CD3", "CD8", "AF"), ((1, 2, 3), (4, 5, 6), (7, 8, 9), (0, 0, 0)), "uint16")
STAINS = {
    "stain1": {"name": "Hematoxylin", "r": 0.65, "g": 0.70, "b": 0.29},
    "stain2": {"name": "DAB", "r": 0.27, "g": 0.57, "b": 0.78},
    "stain3": {"name": "Residual", "r": 0.71, "g": -0.64, "b": 0.29},
    "maxRed": 255.0,
    "maxGreen": 243.0,
    "maxBlue": 236.5,
}


def steps(*chain, before=FOUR):
    """Return the steps of builders, and what the last one shows."""
    made = []
    for kind, values in chain:
        step, before = step_of(kind, values, before)
        made.append(step)
    return PixelSteps(tuple(made)), before


def pixels(dtype, channels, shape=(5, 4), seed=0):
    random = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return (random.normal(size=(*shape, channels)) * 1000).astype(dtype)
    limits = np.iinfo(dtype)
    return random.integers(limits.min, limits.max, (*shape, channels), dtype, endpoint=True)


def test_separated_stains_are_the_solution_of_beers_law():
    """Densities of red, green and blue are those of the stains, weighted by how much there is."""
    rgb = np.stack(np.meshgrid(*[[0, 1, 7, 128, 236, 243, 255]] * 3), axis=-1).astype(np.uint8)
    made, shown = steps(
        ("color_deconvolved", {"stains": STAINS, "channels": [1, 2, 3]}), before=RGB
    )
    amounts = made.apply(rgb)
    assert (amounts.dtype, shown.dtype, shown.color) == (np.float32, "float32", False)
    assert shown.names == ("Hematoxylin", "DAB", "Residual")
    assert shown.colors == ((89, 76, 181), (186, 109, 56), (73, 255, 181))
    vectors = np.array([[STAINS[f"stain{n}"][axis] for axis in "rgb"] for n in (1, 2, 3)])
    whites = np.array([STAINS[key] for key in ("maxRed", "maxGreen", "maxBlue")])
    densities = np.maximum(0, -np.log10(np.maximum(rgb, 1) / whites))
    np.testing.assert_allclose(amounts @ vectors, densities, atol=1e-6)


def test_stains_are_shown_in_the_order_that_is_asked_for():
    rgb = pixels("uint8", 3)
    all_three, _ = steps(
        ("color_deconvolved", {"stains": STAINS, "channels": [1, 2, 3]}), before=RGB
    )
    some, shown = steps(("color_deconvolved", {"stains": STAINS, "channels": [3, 1]}), before=RGB)
    assert shown.names == ("Residual", "Hematoxylin")
    np.testing.assert_array_equal(some.apply(rgb), all_three.apply(rgb)[..., [2, 0]])


@pytest.mark.parametrize(
    "before", [FOUR, Shown(RGB.names, RGB.colors, "uint8"), Shown(RGB.names, RGB.colors, "uint16")]
)
@pytest.mark.parametrize(
    "step",
    [
        ("color_deconvolved", {"stains": STAINS, "channels": [1]}),
        ("color", {"transforms": [{"stains": STAINS, "stainNumber": 1}]}),
    ],
)
def test_stains_are_separated_in_rgb_of_8_bit_alone(before, step):
    with pytest.raises(CoordinateError, match="not RGB of 8 bit") as caught:
        step_of(*step, before)
    assert step[0] in caught.value.message


def test_stains_that_are_one_are_refused():
    same = {**STAINS, "stain2": STAINS["stain1"]}
    with pytest.raises(CoordinateError, match="two of them are the same"):
        step_of("color_deconvolved", {"stains": same, "channels": [1]}, RGB)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float32", "float64"])
def test_each_kind_of_channel_is_what_its_formula_says(dtype):
    """In exact numbers, rounded once to single precision."""
    values = pixels(dtype, 4)
    factors = [0.5, -2.0, 0.0, 0.25]
    made, shown = steps(
        (
            "color",
            {
                "transforms": [
                    {"channel": 2},
                    {"channelName": "CD3"},
                    {"combineType": "MEAN"},
                    {"combineType": "MAXIMUM"},
                    {"combineType": "MINIMUM"},
                    {"channelNamesToCoefficients": {"CD3": -2.0, "DAPI": 0.5, "AF": 0.25}},
                    {"channelIndicesToCoefficients": [1.0, 1.0]},
                ]
            },
        ),
        before=Shown(FOUR.names, FOUR.colors, dtype),
    )
    found = made.apply(values)
    assert found.dtype == np.float32
    for place in np.ndindex(values.shape[:2]):
        one = [Fraction(float(value)) for value in values[place]]
        wanted = [
            one[2],
            one[1],
            sum(one) / 4,
            max(one),
            min(one),
            sum(factor * value for factor, value in zip(map(Fraction, factors), one, strict=True)),
            one[0] + one[1],
        ]
        np.testing.assert_array_equal(found[place], np.array(wanted, np.float64).astype(np.float32))
    assert shown.names[:5] == ("CD8", "CD3", "Average channels", "Max channels", "Min channels")
    assert shown.names[5:] == ("-2.0*CD3 + 0.5*DAPI + 0.25*AF", "1.0*channel0 + 1.0*channel1")
    assert shown.colors[:3] == ((7, 8, 9), (4, 5, 6), (0, 0, 255))


def test_numbers_that_are_none_stay_so():
    values = np.array([[1.0, np.nan], [np.inf, 2.0], [-np.inf, np.inf]], np.float32)
    items = tuple(Transform(kind, (0, 1)) for kind in ("mean", "max", "min"))
    found = Transforms((*items, Transform("linear", (0, 1), (0.0, 1.0)))).apply(values)
    nan, inf = np.nan, np.inf
    np.testing.assert_array_equal(
        found, np.array([[nan] * 4, [inf, inf, 2, nan], [nan, inf, -inf, nan]], np.float32)
    )


def test_a_mean_keeps_what_a_plain_sum_would_lose():
    """Java's average of these four is 2**-54; their sum, rounded after each, is 0."""
    values = np.array([[1, 2**-53, 2**-53, -1]])
    assert Transforms((Transform("mean", (0, 1, 2, 3)),)).apply(values).item() == 2**-54


@pytest.mark.parametrize(
    "step",
    [
        {"transforms": [{"channel": 4}]},
        {"transforms": [{"channelName": "dapi"}]},
        {"transforms": [{"channelNamesToCoefficients": {"DAPI": 1.0, "X": 2.0}}]},
        {"transforms": [{"channelIndicesToCoefficients": [1.0] * 5}]},
    ],
)
def test_a_step_that_needs_a_channel_that_is_not_there_is_refused(step):
    with pytest.raises(CoordinateError, match="DAPI, CD3, CD8, AF"):
        step_of("color", step, FOUR)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32"])
@pytest.mark.parametrize("source", ["float32", "float64", "int32", "uint16"])
def test_converted_values_are_rounded_half_up_and_cut_off(source, dtype):
    limits = np.iinfo(dtype)
    values = [0, 1, 255, 256, 32767, 32768, 65535, limits.max]
    if source != "uint16":
        values += [-1, -32768, -32769, limits.min]
    if source.startswith("float"):
        values += [0.5, 1.5, 2.5, -0.5, -1.5, 0.49999997, -0.50000006, 1e20, -1e20, 254.5]
    values = np.array(values).astype(source)
    found = Convert(dtype).apply(values[:, None])[:, 0]
    assert found.dtype == dtype
    for value, got in zip(values, found, strict=True):
        whole = math.floor(Fraction(float(value)) + Fraction(1, 2))
        assert got == min(max(whole, limits.min), limits.max), value


def test_half_of_what_is_nearly_a_half_is_not_rounded_up():
    """0.49999999999999994 + 0.5 is 1 in double precision; Math.round knows better."""
    assert Convert("int16").apply(np.array([[0.49999999999999994]])).item() == 0


def test_converted_nan_is_0_and_infinities_are_the_limits():
    values = np.array([[np.nan, np.inf, -np.inf]], np.float32)
    assert Convert("int16").apply(values).tolist() == [[0, 32767, -32768]]
    assert Convert("uint8").apply(values).tolist() == [[0, 255, 0]]
    np.testing.assert_array_equal(Convert("float64").apply(values), values.astype(np.float64))


def test_a_type_that_is_there_already_is_left():
    values = pixels("uint16", 2)
    assert Convert("uint16").apply(values) is values


CHAIN = (
    ("color", {"transforms": [{"channel": 3}, {"channel": 0}, {"combineType": "MEAN"}]}),
    ("typeConvert", {"pixelType": "UINT16"}),
    ("color", {"transforms": [{"channel": 1}, {"channel": 0}, {"channel": 2}]}),
    ("typeConvert", {"pixelType": "INT32"}),
)


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (2, 0), (1, 1), (0, 1, 2), ()])
def test_only_what_is_wanted_is_read_and_made(wanted):
    made, shown = steps(*CHAIN)
    assert shown.names == ("DAPI", "AF", "Average channels")
    values = pixels("uint16", 4)
    needed, some = made.restricted(wanted)
    file_channels = {0: {0}, 1: {3}, 2: {0, 1, 2, 3}}
    assert set(needed) == set().union(*(file_channels[one] for one in wanted))
    np.testing.assert_array_equal(
        some.apply(values[..., list(needed)]), made.apply(values)[..., list(wanted)]
    )


def test_steps_are_values():
    made, shown = steps(*CHAIN)
    assert PixelSteps.from_json(made.as_json()) == made == pickle.loads(pickle.dumps(made))
    assert hash(made) == hash(PixelSteps.from_json(made.as_json()))
    assert (made.dtype("uint16"), shown.dtype) == ("int32", "int32")
    assert not NO_STEPS
    assert NO_STEPS.restricted((2, 0)) == ((2, 0), NO_STEPS)
    assert NO_STEPS.dtype("uint16") == "uint16"

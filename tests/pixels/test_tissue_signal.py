import numpy as np
import pytest

from qupath_bridge.errors import PlanError
from qupath_bridge.pixels.base import SlideView
from qupath_bridge.pixels.tissue.masks import grow
from qupath_bridge.pixels.tissue.signal import SignalTissue

HEIGHT, WIDTH = 150, 200


def view_of(pixels, channels=None):
    height, width, count = pixels.shape
    names = channels or tuple(f"Channel {n + 1}" for n in range(count))

    def read(indices=None):
        return pixels if indices is None else pixels[..., list(indices)]

    return SlideView(
        name="a.tif", entry_id="1", slide_id="1_a", size=(width * 20, height * 20),
        shape=(height, width), mpp=10.0, read=read, channels=names, is_rgb=False,
    )  # fmt: skip


def block(share):
    """Return a mask whose left part is tissue."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[:, : round(WIDTH * share)] = True
    return mask


def noise(background, scatter, tissue=None, level=0.0, spread=0.0, seed=0, dtype=np.uint16):
    """Return a channel: noise of a background, and brighter tissue."""
    rng = np.random.default_rng(seed)
    values = rng.normal(background, scatter, (HEIGHT, WIDTH))
    if tissue is not None:
        values[tissue] = rng.normal(level, spread, int(tissue.sum()))
    if np.issubdtype(dtype, np.integer):
        values = np.clip(np.rint(values), 0, np.iinfo(dtype).max)
    return values.astype(dtype)


def found(*channels, argument=None, names=None):
    return SignalTissue(argument)(view_of(np.stack(channels, -1), names))


def agreement(mask, expected):
    """Return how much of two masks is in both, but for the two pixels over which means reach."""
    edge = grow(expected, 2) & grow(~expected, 2)
    return (mask & expected & ~edge).sum() / ((mask | expected) & ~edge).sum()


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_signal_is_found_however_much_of_the_slide_is_tissue(share, dtype):
    tissue = block(share)
    made = found(noise(200, 12, tissue, 600, 80, dtype=dtype))
    assert agreement(made.values, tissue) > 0.99
    assert made.note is None


def test_signal_of_a_channel_without_tissue_is_none():
    made = found(noise(200, 12), noise(3, 1.5, seed=4, dtype=np.uint8))
    assert not made.values.any()
    assert "No channel has signal" in made.note


def test_signal_of_any_channel_counts():
    left, right = block(0.3), ~block(0.8)
    made = found(noise(200, 12, left, 500, 50), noise(90, 5, right, 160, 10, seed=1))
    assert agreement(made.values, left | right) > 0.99


def test_signal_of_one_channel_is_that_of_its_name():
    left, right = block(0.3), ~block(0.8)
    channels = noise(200, 12, left, 500, 50), noise(90, 5, right, 160, 10, seed=1)
    for argument in ("CD3", "cd3", "2"):
        made = found(*channels, argument=argument, names=("DAPI", "CD3"))
        assert agreement(made.values, right) > 0.99


def test_signal_of_an_unknown_channel_is_refused_with_those_there_are():
    with pytest.raises(PlanError, match=r"a\.tif: tissue: No channel is called 'CD8'.*1 DAPI"):
        found(noise(200, 12), argument="CD8", names=("DAPI",))


def test_zeros_that_were_not_scanned_are_no_background():
    tissue = block(0.25)
    values = noise(200, 12, tissue, 500, 50)
    values[:, 120:] = 0
    made = found(values)
    assert agreement(made.values, tissue) > 0.99


def test_zeros_are_the_background_where_values_come_down_to_them():
    rng, tissue = np.random.default_rng(5), block(0.3)
    values = np.zeros((HEIGHT, WIDTH), np.uint8)
    values[tissue] = np.clip(rng.exponential(60, int(tissue.sum())), 0, 255)
    assert agreement(found(values).values, tissue) > 0.9


def test_saturated_signal_is_no_background():
    tissue = block(0.6)
    values = noise(20, 3, tissue, 600, 40, dtype=np.uint8)
    assert (values[tissue] == 255).all()
    assert agreement(found(values).values, tissue) > 0.99


def test_signal_takes_no_account_of_values_that_are_no_number():
    tissue = block(0.3)
    values = noise(0.2, 0.01, tissue, 0.5, 0.05, dtype=np.float32)
    values[:20] = np.nan
    made = found(values)
    assert not made.values[:17, 100:].any()
    assert agreement(made.values[25:], tissue[25:]) > 0.99


def test_signal_may_be_below_zero():
    tissue = block(0.4)
    made = found(noise(-5, 0.4, tissue, 3, 0.5, dtype=np.float32))
    assert agreement(made.values, tissue) > 0.99


@pytest.mark.parametrize("value", [0, 7, 255])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_channel_of_one_value_has_no_signal(value, dtype):
    assert not found(np.full((HEIGHT, WIDTH), value, dtype)).values.any() or value == 255


def test_what_is_faint_beside_the_brightest_values_is_no_signal():
    tissue = block(0.4)
    values = np.full((HEIGHT, WIDTH), 1.0, np.float32)  # a background that does not scatter
    values[tissue] = 100
    values[:, 150:] = 2.5
    assert agreement(found(values).values, tissue) > 0.99
    values[:, 150:] = 5
    assert agreement(found(values).values, tissue | ~block(0.75)) > 0.99


def test_means_of_less_than_one_step_are_no_signal():
    values = np.zeros((HEIGHT, WIDTH), np.uint8)
    values[::3, ::3] = 2  # means of up to 0.7
    assert not found(values).values.any()
    values[50:100, 50:150] = 3
    assert (
        agreement(found(values).values[48:102, 48:152], np.pad(np.ones((50, 100), bool), 2)) > 0.95
    )


def test_specks_of_signal_are_dropped_and_holes_are_filled():
    tissue = block(0.5)
    values = noise(200, 12, tissue, 600, 60)
    values[70:76, 40:46] = 200  # 60 x 60 µm
    values[20:24, 150:154] = 5000
    made = found(values)
    assert made.values[70:76, 40:46].all()
    assert not made.values[:, 110:].any()

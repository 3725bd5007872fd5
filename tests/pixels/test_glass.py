"""The colour of glass: even, bright and hardly coloured; and what is not glass."""

import numpy as np
import pytest

from qupath_bridge.pixels.glass import glass_cast, glass_colour, white_balanced


def slide(*tones):
    """Return a slide of 100 x 100 pixels, with a part of it in each (tone, part)."""
    pixels = np.full((10_000, 3), (180, 90, 140), np.uint8)
    start = 0
    for tone, part in tones:
        stop = start + round(10_000 * part)
        noise = np.random.default_rng(1).normal(0, 1.5, (stop - start, 3))
        pixels[start:stop] = np.clip(tone + noise, 0, 255).round()
        start = stop
    return pixels.reshape(100, 100, 3)


@pytest.mark.parametrize("tone", [(240, 238, 242), (243, 209, 236), (190, 185, 194)])
@pytest.mark.parametrize("part", [0.006, 0.5])
def test_glass_is_the_commonest_bright_tone(tone, part):
    assert glass_colour(slide((tone, part))) == pytest.approx(tone, abs=1)
    filled = slide(((255, 255, 255), 0.4), (tone, part))
    filled.reshape(-1, 3)[:4000] = 255
    assert glass_colour(filled) == pytest.approx(tone, abs=1)


@pytest.mark.parametrize(
    "tones",
    [
        [((230, 172, 205), 0.5)],  # eosin: a saturation of 0.25
        [((165, 160, 166), 0.5)],  # dark
        [((243, 209, 236), 0.003)],  # rare
        [((225, 190, 210), 0.5), ((242, 240, 241), 0.1)],  # pale tissue beside something brighter
        [],
    ],
)
def test_what_is_coloured_or_dark_or_rare_or_not_the_brightest_is_not_glass(tones):
    assert glass_colour(slide(*tones)) is None


def test_usual_glass_has_no_cast():
    assert glass_cast(slide(((240, 236, 242), 0.5))) is None
    assert glass_cast(slide()) is None
    assert glass_cast(slide(((243, 209, 236), 0.5))) == pytest.approx([243, 209, 236], abs=1)
    assert glass_cast(slide(((200, 198, 202), 0.5))) == pytest.approx([200, 198, 202], abs=1)


@pytest.mark.parametrize("glass", [(243, 209, 236), (190, 185, 194)])
def test_glass_becomes_white_and_black_stays(glass):
    pixels = np.array([[glass, (0, 0, 0), [level // 2 for level in glass]]], np.uint8)
    white = max(240, *glass)
    found = white_balanced(pixels, np.array(glass, float))
    assert found[0, :2].tolist() == [[white] * 3, [0, 0, 0]]
    assert found[0, 2] == pytest.approx(white / 2, abs=1)

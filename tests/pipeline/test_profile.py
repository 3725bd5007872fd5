"""Where the time of an export went."""

import pytest

from qupath_bridge.pipeline.profile import Profile


def test_shares_and_limits():
    """Of two workers: 10 s of wall are 20 s of work."""
    profile = Profile({"read": 2.0, "decode": 6.0, "encode": 8.0, "plan": 2.0}, 10.0, 1000, 2)
    assert profile.rate == 100
    assert profile.shares["decode"] == pytest.approx(0.3)
    assert profile.shares["other"] == pytest.approx(0.1)
    assert sum(profile.shares.values()) == pytest.approx(1)
    assert profile.step_limit("encode") == 250
    assert profile.step_limit("write") is None
    assert profile.limit == 125  # 16 s of pixels, by two
    assert profile.as_json()["steps"]["decode"] == {"seconds": 6.0, "share": 0.3, "limit": 333.3}


def test_nothing_was_done():
    """No division by zero."""
    profile = Profile({}, 0.0, 0, 1)
    assert profile.rate == 0
    assert profile.limit is None
    assert profile.shares == {}
    assert profile.as_json()["steps"] == {}

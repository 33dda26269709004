from __future__ import annotations

from fnmatch import fnmatchcase

from fanout.keys import Keys, glob_escape


def test_names_without_and_with_prefix() -> None:
    plain, named = Keys(), Keys("team1:", "all")
    assert (plain.all_channel, plain.session_channel("s"), plain.global_channel) == (
        "events:session",
        "session:s",
        "global:sessions",
    )
    assert (plain.all_stream, plain.session_stream("s")) == ("stream:events", "stream:session:s")
    assert (named.all_channel, named.session_channel("s"), named.global_channel) == (
        "team1:events:session",
        "team1:session:s",
        "team1:all",
    )
    assert (named.all_stream, named.session_stream("s")) == ("team1:stream:events", "team1:stream:session:s")


def test_the_pattern_of_session_streams_takes_the_prefix_literally() -> None:
    keys = Keys("a*b:")
    assert glob_escape("a*b:") == r"a\*b:"
    assert keys.session_stream_pattern == r"a\*b:stream:session:*"
    assert fnmatchcase("stream:session:s", Keys().session_stream_pattern)


def test_retired_names_are_known() -> None:
    keys = Keys()
    retired = keys.retired(keys.session_stream("s"), 3)
    assert keys.is_retired(retired)
    assert not keys.is_retired(keys.session_stream("s"))

"""`regraft cache`; what the commands do to real entries is in tests/caches/test_maintenance.py."""

from typed import typed


def test_the_commands_of_a_cache_are_listed():
    """As --help does."""
    help_text = typed("cache", "--help").output
    assert all(f"    {command}" in help_text for command in ("ls", "verify", "clear"))


def test_clearing_needs_a_rule(tmp_path):
    """All is never meant by nothing."""
    done = typed("cache", "clear", tmp_path)
    assert done.code == 1
    assert "by key (--key), by age (--older-than-days) or by the size that may stay (--keep-gb)" in done.errors

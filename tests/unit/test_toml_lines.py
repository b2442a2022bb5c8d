"""Every key of a TOML file is found on the line where a person wrote it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ConfigError
from gateway.toml_lines import join, load_toml, parent, parse_toml

if TYPE_CHECKING:
    from pathlib import Path

SITE = '''# a comment
title = "a # b"   # not the end
text = """
[not.a.header]
quotes "" and \\""" inside"""
literal = \'\'\'
x = 1
\'\'\'

[site]
scan.fast = "100 ms"
"odd key.1" = 1
limits = { low = 1, high = [1, 2], inner = { deep = "}" } }

[[string]]
id = "A"
cells = 4
[string.limits]
cell_voltage_max = "3.65 V"

[[string]]
id = "B"
until = [
    "a >= 1",  # ] not here
    { signal = "x", value = 3 },
    [1,
     2],
]

[[string.track]]
id = 1
[[string.track]]
id = 2
[string.track.sub]
when = 2026-01-01T00:00:00Z
'''


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("title", 2),
        ("text", 3),
        ("literal", 6),
        ("site", 10),
        ("site.scan", 11),
        ("site.scan.fast", 11),
        ('site."odd key.1"', 12),
        ("site.limits", 13),
        ("site.limits.high[1]", 13),
        ("site.limits.inner.deep", 13),
        ("string", 15),
        ("string[0]", 15),
        ("string[0].cells", 17),
        ("string[0].limits", 18),
        ("string[0].limits.cell_voltage_max", 19),
        ("string[1]", 21),
        ("string[1].until", 23),
        ("string[1].until[0]", 24),
        ("string[1].until[1].value", 25),
        ("string[1].until[2]", 26),
        ("string[1].until[2][1]", 27),
        ("string[1].track[1].id", 33),
        ("string[1].track[1].sub.when", 35),
    ],
)
def test_line_of_a_key(key: str, line: int) -> None:
    _, index = parse_toml(SITE, "site.toml")
    assert index.line(key) == line


@pytest.mark.parametrize(
    ("key", "line"),
    [("string[1].cells", 21), ("string[0].limits.x", 18), ("string[7].id", 15), ('site."a.b"', 10), ("nothing", 1)],
)
def test_a_missing_key_is_reported_where_its_table_begins(key: str, line: int) -> None:
    _, index = parse_toml(SITE, "site.toml")
    assert index.line(key) == line


def test_windows_line_ends_count_as_lines() -> None:
    _, index = parse_toml("a = 1\r\n\r\n[b]\r\nc = 2\r\n", "x")
    assert index.line("b.c") == 4


def test_a_syntax_error_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text("a = 1\nb = = 2\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_toml(path)
    (problem,) = caught.value.problems
    assert (problem.file, problem.line) == (str(path), 2)
    assert "not valid TOML" in problem.text


def test_an_unfinished_file_names_its_last_line() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_toml("a = 1\nb = [1,\n", "x")
    assert caught.value.problems[0].line == 3


def test_a_missing_file_and_a_binary_file_are_config_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_toml(tmp_path / "none.toml")
    binary = tmp_path / "bin.toml"
    binary.write_bytes(b"a = 1\xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_toml(binary)


def test_unknown_keys_get_the_closest_known_one() -> None:
    table, index = parse_toml("[site]\nscn = 1\nfoo = 2\n", "x")
    problems = index.unknown("site", table["site"], ["scan", "id"])
    assert [str(problem) for problem in problems] == [
        "x:2: site.scn: unknown key 'scn'; did you mean 'scan'?",
        "x:3: site.foo: unknown key 'foo'; known keys: id, scan",
    ]


_KEYS = st.one_of(st.from_regex(r"[A-Za-z0-9_-]{1,6}", fullmatch=True), st.text(st.characters(codec="ascii"), max_size=6))


@given(st.lists(st.one_of(_KEYS, st.integers(0, 20)), max_size=5))
def test_parent_undoes_join(keys: list[str | int]) -> None:
    path = ""
    for key in keys:
        longer = join(path, key)
        assert parent(longer) == path
        path = longer


_VALUES = st.recursive(
    st.one_of(st.integers(-9, 9), st.booleans(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_KEYS, inner, max_size=3)),
    max_leaves=8,
)


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_quoted(key)} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[\n" + ",  # ] } comment\n".join(_toml(item) for item in value) + "\n]"
    return _quoted(value) if isinstance(value, str) else json.dumps(value)


def _quoted(text: str) -> str:
    """JSON strings are TOML strings, but for the delete character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


@given(st.dictionaries(_KEYS, _VALUES, max_size=5))
def test_whatever_the_parser_accepts_is_indexed(document: dict[str, object]) -> None:
    text = ""
    expected: dict[str, int] = {}
    for key, value in document.items():
        expected[join("", key)] = text.count("\n") + 1
        text += f"{_quoted(key)} = {_toml(value) if not isinstance(value, dict) or _flat(value) else '{}'}\n"
    _, index = parse_toml(text, "x")
    assert {key: index.lines[key] for key in expected} == expected


def _flat(value: object) -> bool:
    """Inline tables stand on one line in TOML 1.0."""
    return "\n" not in _toml(value)

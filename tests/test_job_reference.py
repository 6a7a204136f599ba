"""docs/job-reference.md tells every key of a job with its default and its words, and no other."""

import re
from dataclasses import MISSING, fields
from pathlib import Path
from types import UnionType
from typing import Annotated, Literal, Union, get_args, get_origin, get_type_hints

import pytest

from regraft.foundation.wording import as_toml
from regraft.jobs.job import Job
from regraft.jobs.sections import TABLES, StepsTable, keys_of, section_of

PAGE = (Path(__file__).resolve().parents[1] / "docs/job-reference.md").read_text(encoding="utf-8")
# The other fields of a job are not written by its user.
SECTIONS = {name: kind for name in keys_of(Job) if (kind := section_of(Job, name)) is not None}
SECTIONS |= {f"train.{name}": kind for name, kind in TABLES.items()}


def table(section):
    """Key → (type, default) as the page has them; "" when it has no such section."""
    text = PAGE.partition(f"\n## [{section}]\n")[2].partition("\n## ")[0]
    return {
        key: (kind, default)
        for key, kind, default in re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \| .* \|$", text, re.MULTILINE)
    }


def test_the_page_has_every_section_in_the_jobs_order():
    """And none that a job does not have."""
    told = re.findall(r"^## \[([\w.]+)\]$", PAGE, re.MULTILINE)
    assert sorted(told) == sorted(SECTIONS)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_is_told_with_its_default(section):
    """`required` where there is none, `none` for None."""
    told = {key: default for key, (_, default) in table(section).items()}
    assert told == {entry.name: default_of(entry) for entry in entries_of(section)}


@pytest.mark.parametrize("section", SECTIONS)
def test_every_word_that_a_key_takes_is_told(section):
    """As in Literal["names", "structure"]."""
    told = {key: kind for key, (kind, _) in table(section).items()}
    hints = get_type_hints(SECTIONS[section], include_extras=True)
    hints = {entry.name: hints[entry.name] for entry in entries_of(section)}
    missing = [(key, word) for key, hint in hints.items() for word in words_of(hint) if word not in told[key]]
    assert not missing


def entries_of(section):
    """Those of a table of [train] are told there, though [train] takes them too."""
    elsewhere = {*TABLES, *StepsTable.__dataclass_fields__} if section == "train" else set()
    return [entry for entry in fields(SECTIONS[section]) if entry.name not in elsewhere]


def default_of(entry):
    if entry.default is MISSING and entry.default_factory is MISSING:
        return "required"
    value = entry.default if entry.default_factory is MISSING else entry.default_factory()
    if value is None:
        return "none"
    if is_one_number(value):
        value = value[0]
    return f"`{as_toml(value)}`" if value != () else "`[]`"


def is_one_number(value):
    """Whether this is one number for all channels, which is written without a list."""
    return isinstance(value, tuple) and len(value) == 1


def words_of(hint):
    """The texts among the values that a key of this type takes, as TOML writes them."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return [as_toml(word) for word in parts if isinstance(word, str)]
    if origin is Annotated:
        return words_of(parts[0])
    return [word for part in parts for word in words_of(part)] if origin in (Union, UnionType) else []

"""A folder as the store of an archive's parts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from kong_cloudtrail.destinations.archive.folder import FolderParts
from kong_cloudtrail.destinations.archive.inspection import ArchiveInspector
from kong_cloudtrail.destinations.archive.part_log import Listed, PartAbsent

NAME = "source=kong/stream=requests/day=2024-06-01/12-000000.json.gz"
DAY = NAME.rpartition("/")[0]


@pytest.fixture
def parts(tmp_path: Path) -> FolderParts:
    return FolderParts(str(tmp_path))


def test_part_is_read_as_it_was_written(parts: FolderParts) -> None:
    body = b"x" * 200_000

    assert parts.create(NAME, body)
    assert b"".join(parts.read(NAME)) == body
    assert list(parts.listed(f"{DAY}/")) == [Listed(NAME)]


def test_part_that_is_not_there(parts: FolderParts) -> None:
    with pytest.raises(PartAbsent):
        next(parts.read(NAME))
    assert list(parts.listed(f"{DAY}/")) == []


def test_one_of_many_writers_creates_a_part_and_nobody_replaces_it(parts: FolderParts, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(lambda number: parts.create(NAME, b"%d" % number), range(32)))

    assert created.count(True) == 1
    assert (tmp_path / NAME).read_bytes() == b"%d" % created.index(True)
    assert [path.name for path in (tmp_path / DAY).iterdir()] == [NAME.rpartition("/")[2]]


def test_what_a_killed_writer_leaves_behind_is_passed_over(parts: FolderParts, tmp_path: Path) -> None:
    (tmp_path / DAY).mkdir(parents=True)
    (tmp_path / DAY / ".5stjhafb").write_bytes(b"half of a part")

    assert list(parts.listed(f"{DAY}/")) == []
    assert ArchiveInspector(parts, "kong", "requests").inspect({}).faults == ()

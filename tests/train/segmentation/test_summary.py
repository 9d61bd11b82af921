import csv
import resource

import pytest

from scans.durable import append_text
from train.segmentation.summary import STARTED, SummaryFile, SummaryRow, read_summary
from train.settings import SettingsError

CASES = ["first", 'a "quoted", name', "on\ntwo lines", "last"]


def begun(case):
    return SummaryRow(case, f"{case}.nii.gz", problem=STARTED, checkpoint="c0", options="flips")


def done(case, **classes):
    return SummaryRow(case, f"{case}.nii.gz", f"{case}_mask.nii.gz", "1.500", checkpoint="c0", classes_ml=classes)


def table(folder):
    with open(folder / "summary.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_every_scan_that_is_done_has_one_row_at_every_moment_and_no_other_has(tmp_path):
    summary = SummaryFile(tmp_path)
    for number, case in enumerate(CASES):
        summary.begun([begun(case)])
        summary.settled(done(case))
        assert [row["case"] for row in table(tmp_path)] == CASES[: number + 1]
    summary.close()
    assert names(tmp_path) == ["summary.csv"]
    assert read_summary(tmp_path) == {case: done(case) for case in CASES}


def test_a_row_costs_the_same_however_many_there_are(tmp_path):
    summary = SummaryFile(tmp_path)
    files = set()
    for number in range(20):
        summary.begun([begun(str(number))])
        summary.settled(done(str(number)))
        files.add((tmp_path / "summary.csv").stat().st_ino)
    assert len(files) == 1, "the file is added to, not written anew"


def test_a_killed_run_is_known_by_what_it_began(tmp_path):
    killed = SummaryFile(tmp_path)
    killed.begun([begun("a"), begun("b")])
    killed.settled(done("a"))
    assert [row["case"] for row in table(tmp_path)] == ["a"]
    assert read_summary(tmp_path) == {"a": done("a"), "b": begun("b")}
    again = SummaryFile(tmp_path)
    assert again.rows == {"a": done("a"), "b": begun("b")}
    again.begun([begun("b"), begun("c")])
    again.settled(done("b"))
    again.close()
    assert names(tmp_path) == ["summary.csv"]
    assert list(read_summary(tmp_path).values()) == [done("a"), done("b"), begun("c")]


def test_a_line_that_a_crash_cut_off_is_no_row_and_nothing_is_added_to_it(tmp_path):
    path, first = tmp_path / "summary.csv", done("first", core="2.0", rim="3.0")
    summary = SummaryFile(tmp_path)
    summary.begun([begun("first"), begun("on\ntwo lines")])
    summary.settled(first)
    before = path.read_bytes()
    summary.settled(done("on\ntwo lines", core="2.0", rim="3.0"))
    whole, begun_by_it = path.read_bytes(), (tmp_path / ".begun.csv").read_bytes()
    for end in range(len(before), len(whole)):
        path.write_bytes(whole[:end])
        (tmp_path / ".begun.csv").write_bytes(begun_by_it)
        assert read_summary(tmp_path) == {"first": first, "on\ntwo lines": begun("on\ntwo lines")}
    again = SummaryFile(tmp_path)
    again.begun([begun("next")])
    again.settled(done("next"))
    assert [row["case"] for row in table(tmp_path)] == ["first", "on\ntwo lines", "next"]


def test_a_class_that_the_summary_had_no_column_for_gets_one(tmp_path):
    summary = SummaryFile(tmp_path)
    rows = [done("a"), done("b", core="2.0"), done("c", core="1.0", rim="3.0"), done("d", rim="4.0")]
    summary.begun([begun(row.case) for row in rows])
    for row in rows:
        summary.settled(row)
        assert read_summary(tmp_path)[row.case] == row
    assert read_summary(tmp_path) == {row.case: row for row in rows}


def test_a_row_in_place_of_another_leaves_one(tmp_path):
    first, second = SummaryFile(tmp_path), SummaryRow("a", "a.nii.gz", problem="no space")
    first.begun([begun("a")])
    first.settled(second)
    first.close()
    again = SummaryFile(tmp_path)
    again.begun([begun("a")])
    assert [row["problem"] for row in table(tmp_path)] == [STARTED]
    again.settled(done("a"))
    assert [row["mask"] for row in table(tmp_path)] == ["a_mask.nii.gz"]


def test_a_full_disk_leaves_the_rows_so_far(tmp_path):
    """A limit on the size of files stands in for a full disk: part of a line fits."""
    summary = SummaryFile(tmp_path)
    summary.begun([begun("a"), begun("b")])
    summary.settled(done("a"))
    before = (tmp_path / "summary.csv").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, limits[1]))
    try:
        with pytest.raises(SettingsError, match=r"summary.csv cannot be written .* the masks so far stay"):
            summary.settled(done("b"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "summary.csv").read_bytes() == before
    append_text(tmp_path / "summary.csv", "x\n")
    assert (tmp_path / "summary.csv").read_bytes() == before + b"x\n"

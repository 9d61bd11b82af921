import itertools

import pytest

from tests.made.scan_files import brain, mask, save, save_dicom
from train.segmentation.inputs import find_inputs
from train.settings import SettingsError

ONE, TWO = ("FLAIR",), ("FLAIR", "T1")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "scans"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def cases(inputs):
    return {one.case: [path.name for path in one.scans] for one in inputs}


def test_files_are_named_after_themselves_in_any_format(folder, out):
    touch(folder, "a.nii.gz", "b.NRRD", "c.x.mha")
    given = [folder / name for name in ("c.x.mha", "a.nii.gz", "b.NRRD", "missing.nii")]
    assert [one.case for one in find_inputs(given, ONE, out)] == ["c.x", "a", "b", "missing"]


def test_a_folder_of_one_series_is_one_scan(folder, out):
    save_dicom(brain(), folder / "series")
    (one,) = find_inputs([folder / "series"], ONE, out)
    assert (one.case, one.scans) == ("series", (folder / "series",))


def test_a_folder_is_searched_with_all_in_it_and_results_keep_its_form(folder, out):
    touch(folder, "a.nii.gz", "sub-1/flair.mha", "sub-2/flair.mha", "sub-2/notes.txt", ".hidden/b.nii.gz", "._c.nii")
    save_dicom(brain(), folder / "sub-3" / "series")
    assert cases(find_inputs([folder], ONE, out)) == {
        "a": ["a.nii.gz"],
        "sub-1/flair": ["flair.mha"],
        "sub-2/flair": ["flair.mha"],
        "sub-3/series": ["series"],
    }


def test_results_in_the_folder_are_not_taken_for_scans(folder):
    names = ("a.nii.gz", "a_mask.nii.gz", "a_probability.nii.gz", "a_normal.nrrd", "a_normal_T1.nii.gz", "b_mask.nii")
    touch(folder, *names, "masks/a_mask.nii.gz", "masks/a.nii.gz")
    assert list(cases(find_inputs([folder], ONE, folder))) == ["a", "b_mask", "masks/a"]
    assert list(cases(find_inputs([folder], ONE, folder / "masks"))) == ["a", "b_mask"]


def test_links_are_followed_once(folder, out):
    touch(folder, "sub/a.nii.gz")
    (folder / "sub" / "again").symlink_to(folder)
    (folder / "elsewhere.nii.gz").symlink_to(folder / "sub" / "a.nii.gz")
    assert list(cases(find_inputs([folder], ONE, out))) == ["elsewhere", "sub/a"]


def test_a_folder_without_scans_is_said_to_be(folder, out):
    touch(folder, "notes.txt")
    with pytest.raises(SettingsError, match="nothing in this folder is a scan or a DICOM series"):
        find_inputs([folder], ONE, out)
    with pytest.raises(SettingsError, match=r"nothing in this folder matches \{case\}_flair.nii"):
        find_inputs([folder], ONE, out, patterns=["{case}_flair.nii"])


def test_what_was_taken_of_a_folder_and_what_not_is_said_in_one_line(folder, out):
    for name in ("a_flair.nii.gz", "a_t1.nii.gz", "b_flair.nii.gz"):
        save(brain(), folder / name)
    for name in ("a_seg.nii.gz", "b_brain.nii.gz", "a_core.nii.gz"):
        save(mask(), folder / name)
    said = []
    find_inputs([folder], ONE, out, rois=["{case}_brain.nii.gz"], say=said.append)
    assert said[0].startswith(
        f"{folder}: 4 scans; 2 masks, labels and results are not taken for scans (1 _brain, 1 _seg)"
    )
    assert "2 _flair, 1 _t1), and this network takes FLAIR; to take those alone give --pattern" in said[1]
    save_dicom(brain(), folder / "series")
    said.clear()
    find_inputs([folder / "series", folder / "a_flair.nii.gz"], ONE, out, say=said.append)
    assert said == [], "what is named is what is taken"


def test_masks_given_by_roi_are_counted_among_those_not_taken(folder, out):
    touch(folder, "a.nii.gz", "a_box.nii.gz")
    said = []
    assert list(cases(find_inputs([folder], ONE, out, rois=["{case}_box.nii.gz"], say=said.append))) == ["a"]
    assert said == [
        f"{folder}: 1 scan; 1 mask, label or result is not taken for scans (1 of --roi); --pattern chooses otherwise"
    ]


def test_a_folder_of_masks_alone_says_so(folder, out):
    save(mask(), folder / "a_seg.nii.gz")
    with pytest.raises(SettingsError, match=r"1 mask, label or result is not taken for scans \(1 _seg\)"):
        find_inputs([folder], ONE, out)


def test_a_stray_slice_hides_no_scan_of_the_folder_that_is_named(folder, out):
    touch(folder, "a.nii.gz", "sub/b.nii.gz")
    save_dicom(brain(), folder, skip=tuple(range(1, brain().array.shape[0])))
    assert list(cases(find_inputs([folder], ONE, out))) == ["scans", "a", "sub/b"]


def test_the_two_of_one_stem_share_the_roi_of_that_stem(folder, out):
    touch(folder, "p1.nii.gz", "p1.nrrd", "p1_brain.nii.gz")
    found = find_inputs([folder], ONE, out, rois=["{case}_brain.nii.gz"])
    assert [(one.case, one.roi.name) for one in found] == [
        ("p1.nii.gz", "p1_brain.nii.gz"),
        ("p1.nrrd", "p1_brain.nii.gz"),
    ]


@pytest.mark.parametrize("patterns", [(), ("{case}.nii.gz",), ("{case}/flair.nii.gz",)])
def test_links_to_nothing_are_problems_of_their_own(folder, out, patterns):
    touch(folder, "a.nii.gz", "a/flair.nii.gz")
    (folder / "gone.nii.gz").symlink_to("../.git/annex/objects/none")
    (folder / "gone").symlink_to("nowhere")
    found = {one.case: one.problem for one in find_inputs([folder], ONE, out, patterns=patterns)}
    assert not found["a"] if patterns else not found["a/flair"]
    gone = [problem for case, problem in found.items() if case.startswith("gone")]
    assert gone
    assert all("a link to nothing" in problem or "no file matches gone/flair" in problem for problem in gone)
    (named,) = find_inputs([folder / "gone.nii.gz"], ONE, out)
    assert "is a link to nothing" in named.problem


# Several modalities.


def test_modalities_are_joined_by_commas(folder, out):
    touch(folder, "a_flair.nii.gz", "a_t1.nii.gz", "b,c.nii.gz")
    (one,) = find_inputs([f"{folder}/a_flair.nii.gz, {folder}/a_t1.nii.gz"], TWO, out)
    assert (one.case, [path.name for path in one.scans]) == ("a_flair", ["a_flair.nii.gz", "a_t1.nii.gz"])
    (one,) = find_inputs([folder / "b,c.nii.gz"], ONE, out)
    assert one.case == "b,c", "a comma of the file's own name parts nothing"


@pytest.mark.parametrize("given", ["a.nii.gz", "a.nii.gz,b.nii.gz,c.nii.gz"])
def test_another_number_of_files_names_the_modalities_in_their_order(out, given):
    with pytest.raises(SettingsError, match="this network takes 2, in this order: FLAIR, T1; join the files"):
        find_inputs([given], TWO, out)


def test_a_folder_of_several_modalities_needs_patterns(folder, out):
    touch(folder, "a_flair.nii.gz", "a_t1.nii.gz")
    with pytest.raises(SettingsError, match=r"--pattern '\{case\}_flair.nii.gz' --pattern '\{case\}_t1.nii.gz'"):
        find_inputs([folder], TWO, out)
    with pytest.raises(SettingsError, match="1 --pattern; this network takes 2, in this order: FLAIR, T1"):
        find_inputs([folder], TWO, out, patterns=["{case}_flair.nii.gz"])


@pytest.mark.parametrize(
    ("flair", "t1"),
    [("{case}_flair.nii.gz", "{case}_t1.nii.gz"), ("{case}/x_{case}_flair*.nii.gz", "{case}/*_t1.nii.gz")],
)
def test_patterns_find_the_modalities_of_each_case(folder, out, flair, t1):
    names = [f"{pattern.replace('{case}', case).replace('*', 'Z')}" for case in "ab" for pattern in (flair, t1)]
    touch(folder, *names, "c/unlike.nii.gz")
    found = find_inputs([folder], TWO, out, patterns=[flair, t1])
    assert [one.case for one in found] == ["a", "b"]
    assert [path.relative_to(folder).as_posix() for one in found for path in one.scans] == names


def test_a_case_that_lacks_a_modality_or_has_it_twice_is_a_problem_of_its_own(folder, out):
    touch(folder, "a_flair.nii", "a_t1.nii", "b_flair.nii", "c_flair.nii", "c_t1.nii", "c_t1x.nii", "d_t1.nii")
    a, b, c, d = find_inputs([folder], TWO, out, patterns=["{case}_flair.nii", "{case}_t1*.nii"])
    assert not a.problem
    assert "no file matches b_t1*.nii" in b.problem
    assert "c_t1.nii and c_t1x.nii match c_t1*.nii" in c.problem
    assert "no file matches d_flair.nii" in d.problem, "nor is one left out that has the second alone"


@pytest.mark.parametrize("pattern", ["flair.nii.gz", "/abs/{case}.nii.gz", "../{case}.nii", "**/{case}.nii"])
def test_a_pattern_lies_below_its_folder(folder, out, pattern):
    touch(folder, "a.nii")
    with pytest.raises(SettingsError, match="write it from the folder on"):
        find_inputs([folder], ONE, out, patterns=[pattern])


def test_a_pattern_needs_a_folder(folder, out):
    touch(folder, "a.nii")
    with pytest.raises(SettingsError, match="give a folder"):
        find_inputs([folder / "a.nii"], ONE, out, patterns=["{case}.nii"])


def test_brackets_and_questions_in_a_name_are_plain_letters(folder, out):
    touch(folder, "[a]?_flair.nii", "a_flair.nii", "[a]?_t1.nii", "a_t1.nii")
    found = find_inputs([folder], TWO, out, patterns=["{case}_flair.nii", "{case}_t1.nii"])
    assert cases(found) == {"[a]?": ["[a]?_flair.nii", "[a]?_t1.nii"], "a": ["a_flair.nii", "a_t1.nii"]}


# Masks of the region of interest.


def test_roi_masks_come_one_for_each_scan_or_by_a_pattern(folder, out):
    touch(folder, "a.nii.gz", "b.nii.gz", "a_brain.nii.gz", "b_brain.nii.gz", "sub/c.nii", "sub/c_brain.nii.gz")
    given = [folder / "a.nii.gz", folder / "b.nii.gz"]
    listed = find_inputs(given, ONE, out, rois=["x.nii", "y.nii"])
    assert [str(one.roi) for one in listed] == ["x.nii", "y.nii"]
    for inputs in (given, [folder]):
        found = find_inputs(inputs, ONE, out, rois=["{case}_brain.nii.gz"])
        assert all(one.roi.name == f"{one.scans[0].name.split('.')[0]}_brain.nii.gz" for one in found)
        assert all(one.roi.is_file() for one in found)
        assert len(found) == len(inputs) + (inputs != given) * 2, "masks are not scans"
    cased = find_inputs([folder], ONE, out, patterns=["{case}.nii.gz"], rois=["rois/{case}.mha"])
    assert cased[0].roi == folder / "rois" / "a.mha"


@pytest.mark.parametrize("count", [1, 3])
def test_the_number_of_roi_masks_must_fit(out, count):
    with pytest.raises(SettingsError, match=f"{count} --roi masks for 2 scans"):
        find_inputs(["a.nii", "b.nii"], ONE, out, rois=["r.nii"] * count)


def test_roi_masks_of_a_folder_need_a_pattern(folder, out):
    save(brain(), folder / "a.nii.gz")
    save(mask(), folder / "r.nii.gz")
    with pytest.raises(SettingsError, match=r"for a folder write one pattern, e.g. --roi \{case\}_brain.nii.gz"):
        find_inputs([folder], ONE, out, rois=[folder / "r.nii.gz"])


def test_order_is_that_of_what_is_given(folder, out):
    touch(folder, "x/b.nii", "x/a.nii", "y/c.nii")
    for order in itertools.permutations([folder / "x", folder / "y" / "c.nii"]):
        found = [one.case for one in find_inputs(list(order), ONE, out)]
        assert found == (["a", "b", "c"] if order[0].name == "x" else ["c", "a", "b"])

import pytest

from scans.catalog.bids_dataset import with_bids
from scans.catalog.catalog import Catalog, load_catalog
from scans.catalog.dataset import Dataset
from scans.errors import CatalogError, ScanError
from scans.image.cases import check_files, find_cases
from tests.made.bids import write_dataset, write_json
from tests.made.catalogs import make


def touch(root, *names):
    """Make empty files under names of BIDS, ``strip/sub-01_mask`` in the derivatives of ``strip``."""
    for name in names:
        pipeline, _, file = name.rpartition("/")
        folders = [part for part in file.split("_") if part.startswith(("sub-", "ses-"))]
        path = root.joinpath(*(["derivatives", pipeline] if pipeline else []), *folders, "anat", file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def dataset(root, image="FLAIR", role="normal", modality="FLAIR", **layout):
    known = dict.fromkeys(("licence", "terms", "citation", "obtain"), "none")
    return Dataset.model_validate(
        {
            "role": role,
            "region": "brain",
            "modality": modality,
            "redistribute_derived": True,
            "root": {"path": str(root)},
        }
        | {"layout": {"kind": "bids", "image": image, **layout}}
        | known
    )


def cases(root, *given, **said):
    """Return the files of each case by role, the images by modality."""
    found = find_cases(dataset(root, *given, **said), "mine")
    assert not [case.problem for case in found if case.problem]
    return {case.name: {role: path.name for role, path in case.files().items()} for case in found}


def problems(root, *given, **said):
    return {case.name: case.problem for case in find_cases(dataset(root, *given, **said), "mine") if case.problem}


def test_scans_of_sessions_and_runs_get_the_masks_of_their_own(tmp_path):
    touch(
        tmp_path,
        *("sub-01_FLAIR.nii.gz", "sub-01_T1w.nii.gz", "strip/sub-01_desc-brain_mask.nii.gz"),
        *("sub-02_ses-a_run-1_FLAIR.nii", "sub-02_ses-a_run-2_FLAIR.nii.gz", "sub-02_ses-b_FLAIR.nii.gz"),
        *("strip/sub-02_ses-a_run-01_desc-brain_mask.nii.gz", "strip/sub-02_ses-a_run-2_desc-brain_mask.nii.gz"),
        *("strip/sub-02_ses-b_label-brain_mask.nii.gz", "marks/sub-02_ses-b_label-lesion_mask.nii.gz"),
        "marks/sub-02_ses-b_label-WM_probseg.nii.gz",
    )
    assert cases(tmp_path) == {
        "sub-01": {"image": "sub-01_FLAIR.nii.gz", "roi": "sub-01_desc-brain_mask.nii.gz"},
        "sub-02_ses-a_run-1": {
            "image": "sub-02_ses-a_run-1_FLAIR.nii",
            "roi": "sub-02_ses-a_run-01_desc-brain_mask.nii.gz",
        },
        "sub-02_ses-a_run-2": {
            "image": "sub-02_ses-a_run-2_FLAIR.nii.gz",
            "roi": "sub-02_ses-a_run-2_desc-brain_mask.nii.gz",
        },
        "sub-02_ses-b": {
            "image": "sub-02_ses-b_FLAIR.nii.gz",
            "roi": "sub-02_ses-b_label-brain_mask.nii.gz",
            "lesion": "sub-02_ses-b_label-lesion_mask.nii.gz",
        },
    }


def test_a_mask_of_another_scan_or_space_is_not_taken(tmp_path):
    touch(
        tmp_path,
        *("sub-01_FLAIR.nii.gz", "sub-02_FLAIR.nii.gz", "sub-03_FLAIR.nii.gz", "sub-03_acq-3D_FLAIR.nii.gz"),
        *("prep/sub-01_desc-brain_mask.nii.gz", "prep/sub-01_space-MNI152NLin6Asym_desc-brain_mask.nii.gz"),
        *("prep/sub-01_res-2_desc-brain_mask.nii.gz", "prep/sub-02_space-FLAIR_desc-brain_mask.nii.gz"),
        *("prep/sub-02_space-T1w_desc-brain_mask.nii.gz", "prep/sub-02_desc-brain_mask.nii.gz"),
        "prep/sub-03_acq-3D_desc-brain_mask.nii.gz",
    )
    for name, sources in (
        ("01", ["bids:raw:sub-01/anat/sub-01_T1w.nii.gz"]),
        ("02", ["bids::sub-02/sub-02_FLAIR.nii"]),
    ):
        made_of = {"RawSources" if name == "01" else "Sources": sources}
        write_json(tmp_path / f"derivatives/prep/sub-{name}/anat/sub-{name}_desc-brain_mask.json", made_of)
    assert {name: files.get("roi") for name, files in cases(tmp_path).items()} == {
        "sub-01": None,  # it is the T1w's
        "sub-02": "sub-02_space-FLAIR_desc-brain_mask.nii.gz",
        "sub-03": None,
        "sub-03_acq-3D": "sub-03_acq-3D_desc-brain_mask.nii.gz",
    }


def test_of_two_pipelines_the_user_says_which(tmp_path):
    touch(tmp_path, "sub-01_FLAIR.nii.gz", "bet/sub-01_desc-brain_mask.nii.gz", "hdbet/sub-01_desc-brain_mask.nii.gz")
    told = problems(tmp_path)["sub-01"]
    assert "derivatives/bet/" in told
    assert "--derivatives" in told
    (case,) = find_cases(dataset(tmp_path, derivatives="hdbet"), "mine")
    assert case.roi == tmp_path / "derivatives" / "hdbet" / "sub-01" / "anat" / "sub-01_desc-brain_mask.nii.gz"


def test_what_this_software_found_is_never_taken_for_an_annotation(tmp_path):
    touch(tmp_path, "sub-01_FLAIR.nii.gz", "ours/sub-01_label-tumor_mask.nii.gz")
    description = {"Name": "x", "BIDSVersion": "1.10.0", "GeneratedBy": [{"Name": "Layered Tumors"}]}
    write_json(tmp_path / "derivatives" / "ours" / "dataset_description.json", description)
    assert set(cases(tmp_path, role="tumour")["sub-01"]) == {"image"}
    assert set(cases(tmp_path, role="tumour", derivatives="ours")["sub-01"]) == {"image", "label"}
    touch(tmp_path, "expert/sub-01_label-lesion_mask.nii.gz")
    assert cases(tmp_path, role="tumour")["sub-01"]["label"] == "sub-01_label-lesion_mask.nii.gz"


def test_several_modalities_of_a_session_are_one_case(tmp_path):
    touch(
        tmp_path,
        *("sub-01_FLAIR.nii.gz", "sub-01_acq-fast_T1w.nii.gz", "sub-01_ce-gad_T1w.nii.gz"),
        *("sub-02_FLAIR.nii.gz", "sub-03_T1w.nii.gz"),
    )
    both = {"FLAIR": "FLAIR", "T1": "T1w", "T1ce": "ce-*_T1w"}
    found = find_cases(dataset(tmp_path, both, modality=list(both)), "mine")
    assert [path.name for path in found[0].images] == [
        "sub-01_FLAIR.nii.gz", "sub-01_acq-fast_T1w.nii.gz", "sub-01_ce-gad_T1w.nii.gz",
    ]  # fmt: skip
    assert not found[0].problem
    assert "its T1 scan is missing" in found[1].problem
    assert "its FLAIR scan is missing" in found[2].problem


def test_a_scan_that_cannot_be_told_or_is_not_there_is_named(tmp_path):
    touch(tmp_path, "sub-01_FLAIR.nii.gz", "sub-01_FLAIR.nii", "sub-02_FLAIR.nii.gz", "sub-04_FLAIR.nii.gz")
    (tmp_path / "sub-02" / "anat" / "sub-02_FLAIR.nii.gz").unlink()
    (tmp_path / "sub-02" / "anat" / "sub-02_FLAIR.nii.gz").symlink_to("annexed")
    (tmp_path / "sub-04" / "anat" / "sub-04_FLAIR.nii.gz").rename(tmp_path / "sub-04" / "anat" / "sub-05_FLAIR.nii.gz")
    (tmp_path / "sub-04" / "anat" / "sub-04-b_FLAIR.nii.gz").touch()
    (tmp_path / "sub-04" / "anat" / "again").symlink_to(tmp_path)  # in a circle
    found = find_cases(dataset(tmp_path), "mine")
    assert [(case.name, case.problem.split(" ", 1)[1][:35]) for case in found] == [
        ("sub-01", "and " + f"{tmp_path}"[:31]),
        ("sub-02", "is a link to nothing; fetch what it"),
        ("sub-04-b_FLAIR", "is not named as BIDS names scans (s"),
        ("sub-05_FLAIR", "is not named as BIDS names scans (s"),
    ]


def test_a_catalog_names_a_dataset_of_bids(tmp_path):
    touch(tmp_path / "data", "sub-01_FLAIR.nii.gz")
    loaded = load_catalog(make(tmp_path, "kind: bids\n      image: FLAIR\n      required: [roi]"))
    (case,) = find_cases(loaded.dataset("mine"), "mine")
    with pytest.raises(ScanError, match="its roi mask is missing; expected at desc-brain_mask or label-brain_mask"):
        check_files(case, loaded.dataset("mine"), loaded.regions["brain"])
    for line, told in (
        ("image: '{case}.nii.gz'", "no end of a BIDS name"),
        ("image: FLAIR\n      derivatives: ../x", "no folder below derivatives"),
    ):
        with pytest.raises(CatalogError, match=told):
            load_catalog(make(tmp_path, f"kind: bids\n      {line}"))


def test_a_dataset_that_no_catalog_names_says_of_itself_what_it_is(tmp_path):
    root = write_dataset(tmp_path / "ds000001", Name="Brains & more", License="CC0", DatasetDOI="doi:10.1/x")
    touch(root, "sub-01_FLAIR.nii.gz")
    catalog = Catalog.model_validate(
        {"regions": {"brain": {"modality": "FLAIR"}, "t1": {"modality": "T1"}}, "datasets": {}}
    )
    found, name = with_bids(catalog, root, "FLAIR")
    assert name == "Brains_more"  # in any folder
    assert found.datasets[name].region == "brain"
    assert with_bids(catalog, root, "acq-3D_T1w")[0].datasets[name].region == "t1"
    assert found.datasets[name].redistribute_derived
    assert "doi:10.1/x" in found.datasets[name].citation
    write_json(root / "dataset_description.json", {"Name": "Brains", "License": "CC-BY-NC-4.0"})
    assert not with_bids(catalog, root, "FLAIR")[0].datasets["Brains"].redistribute_derived
    (root / "dataset_description.json").write_text("{", encoding="utf-8")
    assert with_bids(catalog, root, "FLAIR", "t1")[1] == "ds000001"
    for given, told in (
        ((root, "PDw"), "say of which region its PDw is, with --region; there are brain, t1"),
        ((root, "FLAIR.nii"), "no end of a BIDS name"),
        ((tmp_path, "FLAIR"), r"there is no sub-\* in this folder"),
        ((tmp_path / "none", "FLAIR"), "is not a folder"),
    ):
        with pytest.raises(CatalogError, match=told):
            with_bids(catalog, *given, *(["brain"] if "." in given[1] else []))

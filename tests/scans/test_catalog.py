import os
from pathlib import Path

import pytest

from scans.catalog.catalog import load_catalog
from scans.catalog.shipped import SHIPPED, shipped_names
from scans.errors import CatalogError, ScanError
from scans.image.cases import find_cases, read_case, source_name
from tests.made.catalogs import ROOT, make, make_two, save_two
from tests.made.scan_files import brain, mask, save, save_dicom

CATALOGS = [
    ROOT / "data_catalog.yaml",
    ROOT / "catalogs/dev.yaml",
    ROOT / "catalogs/cross-fit.yaml",
    SHIPPED / "demo.yaml",
]


def cases_of(path: Path):
    catalog = load_catalog(path)
    dataset = catalog.dataset("mine")
    return catalog, dataset, find_cases(dataset, "mine")


def refusal(path: Path) -> str:
    with pytest.raises(CatalogError) as caught:
        load_catalog(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("path", CATALOGS, ids=lambda path: path.name)
def test_shipped_catalogs_are_valid(path):
    catalog = load_catalog(path)
    for name, region in catalog.regions.items():
        assert region.name == name
    for dataset in catalog.datasets.values():
        assert dataset.status() is None or len(dataset.obtain) > 10


def test_every_dataset_of_the_paper_is_named():
    catalog = load_catalog(CATALOGS[0])
    roles = {name: dataset.role for name, dataset in catalog.datasets.items()}
    normals = ["OASIS", "BTCV", "CHAOS", "KiTS", "Pancreas-CT", "MSD-Pancreas", "MSD-Spleen"]
    assert roles == dict.fromkeys(normals, "normal") | dict.fromkeys(["BraTS2018", "BraTS2018-4", "LiTS2017"], "tumour")
    assert {name for name, dataset in catalog.datasets.items() if dataset.region == "brain-flair"} == {
        "OASIS",
        "BraTS2018",
        "BraTS2018-4",
    }


def test_official_layouts_are_found(tmp_path, monkeypatch):
    files = {
        "OASIS": ["OAS1_MR_d0129/anat3/sub-OAS1_ses-d0129_FLAIR.nii.gz"],
        "BTCV": ["Training/img/img0001.nii.gz", "Training/label/label0001.nii.gz"],
        "KiTS": ["case_00000/imaging.nii.gz", "case_00000/segmentation.nii.gz", "liver/case_00000.nii.gz"],
        "MSD-Spleen": ["imagesTr/spleen_2.nii.gz", "imagesTr/._spleen_2.nii.gz", "liver/spleen_2.nii.gz"],
        "BraTS2018": ["HGG/Brats18_A_1/Brats18_A_1_flair.nii.gz", "HGG/Brats18_A_1/Brats18_A_1_seg.nii.gz"],
        "BraTS2018-4": [f"LGG/Brats18_B_1/Brats18_B_1_{x}.nii.gz" for x in ("flair", "t1", "t1ce", "t2", "seg")],
        "LiTS2017": ["Training Batch 1/volume-7.nii", "Training Batch 1/segmentation-7.nii"],
    }
    catalog = load_catalog(CATALOGS[0])
    for name, paths in files.items():
        dataset = catalog.dataset(name)
        for path in paths:
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / path).touch()
        monkeypatch.setenv(dataset.root.env, str(tmp_path / name))
        (case,) = find_cases(dataset, name)
        assert case.problem == ""
        for role in dataset.layout.required:
            assert role in case.files(), (name, role)


def test_a_catalog_of_the_software_is_found_by_name_from_any_folder_unless_a_file_there_has_the_name(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert shipped_names() == ["data_catalog.yaml", "demo.yaml"]
    for name in shipped_names():
        assert load_catalog(name) == load_catalog(SHIPPED / name)
    (tmp_path / "demo.yaml").write_text("regions:\n  mine: {modality: CT}\n")
    assert set(load_catalog("demo.yaml").regions) == {"mine"}
    assert "comes with the software: data_catalog.yaml, demo.yaml" in refusal(Path("dema.yaml"))
    assert "sub/demo.yaml: no catalog" in refusal(Path("sub/demo.yaml"))


@pytest.mark.parametrize("name", ["mine.yaml", "data_catalog.yaml"])
def test_a_catalog_of_ones_own_adds_to_that_of_the_software_wherever_it_lies_whatever_its_name(tmp_path, name):
    path = make(tmp_path).rename(tmp_path / name)
    path.write_text("include: [data_catalog.yaml]\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    both = load_catalog(path)
    assert "mine" in both.datasets
    assert load_catalog(SHIPPED / "data_catalog.yaml").regions.items() < both.regions.items()


def test_include_is_relative_to_the_file_and_names_are_unique(tmp_path):
    (tmp_path / "sub").mkdir()
    make(tmp_path)
    inner = tmp_path / "sub" / "more.yaml"
    inner.write_text("include: [../catalog.yaml]\nregions:\n  other: {modality: CT}\n")
    assert set(load_catalog(inner).regions) == {"brain", "other"}
    inner.write_text("include: [../catalog.yaml]\nregions:\n  brain: {modality: CT}\n")
    assert "region brain is defined twice" in refusal(inner)


def test_unknown_names_list_the_known(tmp_path):
    catalog = load_catalog(make(tmp_path))
    with pytest.raises(CatalogError, match="no dataset OASIS in the catalog; there are mine"):
        catalog.dataset("OASIS")
    with pytest.raises(CatalogError, match="no region liver in the catalog; there are brain"):
        catalog.region("liver")


@pytest.mark.parametrize(
    ("layout", "told"),
    [
        ('image: "{case}.nii.gz"\n      colour: red', "colour"),
        ('image: "../{case}.nii.gz"', "must lie under the root"),
        ('image: "/data/{case}.nii.gz"', "must lie under the root"),
        ('image: "scan.nii.gz"', "contain {case}"),
        ('image: "{case}?.nii.gz"', "only wildcard"),
        ('image: "{case}.nii.gz"\n      required: [label]', "requires label"),
        ('image: "{case}.nii.gz"\n      image: "{case}.mha"', "given twice"),
        ("image: !!python/object/apply:os.getcwd []", "not valid YAML"),
        ("image: [", "not valid YAML"),
    ],
)
def test_mistakes_in_a_catalog_are_told_in_one_line(tmp_path, layout, told):
    assert told in refusal(make(tmp_path, layout))


def test_missing_region_file_and_foreign_keys_are_told(tmp_path):
    path = make(tmp_path)
    path.write_text(path.read_text(encoding="utf-8").replace("  brain: {", "  liver: {"))
    assert "no region brain; there are liver" in refusal(path)
    assert "no catalog can be read" in refusal(tmp_path / "absent.yaml")
    (tmp_path / "list.yaml").write_text("- a\n")
    assert "nothing else" in refusal(tmp_path / "list.yaml")


def test_root_that_is_not_there_gives_no_cases_and_a_reason(tmp_path, monkeypatch):
    path = make(tmp_path)
    _, dataset, cases = cases_of(path)
    assert cases == []
    assert dataset.status() == f"{tmp_path / 'data'} is not a folder"
    path.write_text(path.read_text(encoding="utf-8").replace(f"path: {tmp_path / 'data'}", "env: NO_SUCH_ROOT"))
    monkeypatch.delenv("NO_SUCH_ROOT", raising=False)
    _, dataset, cases = cases_of(path)
    assert cases == []
    assert "set NO_SUCH_ROOT" in dataset.status()
    path.write_text(path.read_text(encoding="utf-8").replace("env: NO_SUCH_ROOT", "package: no_such_package"))
    _, dataset, cases = cases_of(path)
    assert "install the Python package" in dataset.status()


def test_package_root_is_its_folder(tmp_path):
    path = make(tmp_path, 'image: "core/{case}.py"')
    path.write_text(path.read_text(encoding="utf-8").replace(f"path: {tmp_path / 'data'}", "package: numpy"))
    _, _, cases = cases_of(path)
    assert any(case.image.is_file() and case.image.parent.parent.name == "numpy" for case in cases)


def test_cases_pair_their_masks_and_read_them(tmp_path):
    layout = 'image: "*/{case}_flair.nii.gz"\n      roi: "*/{case}_brain.nii.gz"'
    layout += '\n      lesion: ["{case}_a.nii.gz", "{case}_b.nii.gz"]'
    path = make(tmp_path, layout)
    for name in ("b [1]", "a"):
        save(brain(), tmp_path / "data" / "x" / f"{name}_flair.nii.gz")
    save(mask(radius=0.8, centre=0), tmp_path / "data" / "x" / "b [1]_brain.nii.gz")
    save(mask(), tmp_path / "data" / "b [1]_b.nii.gz")
    catalog, dataset, cases = cases_of(path)
    assert [case.name for case in cases] == ["a", "b [1]"]
    assert [sorted(case.files()) for case in cases] == [["image"], ["image", "lesion", "roi"]]
    scan = read_case(cases[1], dataset, catalog.region("brain"))
    assert scan.lesion.array.sum() == mask().array.sum()
    assert scan.label is None


def test_files_that_cannot_be_told_apart_are_a_problem_of_their_case(tmp_path):
    path = make(tmp_path, 'image: "*/{case}_flair.nii.gz"')
    for folder in ("one", "two"):
        save(brain(), tmp_path / "data" / folder / "a_flair.nii.gz")
    catalog, dataset, cases = cases_of(path)
    with pytest.raises(ScanError, match="match the same pattern"):
        read_case(cases[0], dataset, catalog.region("brain"))


def test_mask_that_must_be_there_is_asked_for(tmp_path):
    path = make(tmp_path, 'image: "{case}_flair.nii.gz"\n      roi: "m/{case}.nii.gz"\n      required: [roi]')
    save(brain(), tmp_path / "data" / "a_flair.nii.gz")
    catalog, dataset, cases = cases_of(path)
    with pytest.raises(ScanError, match=r"roi mask is missing; expected at m/a\.nii\.gz"):
        read_case(cases[0], dataset, catalog.region("brain"))


def test_mask_on_another_grid_is_refused(tmp_path):
    path = make(tmp_path, 'image: "{case}_flair.nii.gz"\n      lesion: "{case}_lesion.nii.gz"')
    save(brain(), tmp_path / "data" / "a_flair.nii.gz")
    save(mask().with_array(mask().array[:-1]), tmp_path / "data" / "a_lesion.nii.gz")
    catalog, dataset, cases = cases_of(path)
    with pytest.raises(ScanError, match="not on the grid"):
        read_case(cases[0], dataset, catalog.region("brain"))


def test_dicom_series_are_found_by_their_folder(tmp_path):
    path = make(tmp_path, 'kind: dicom\n      image: "CT/{case}/DICOM_anon"\n      roi: "liver/{case}.nii.gz"')
    save_dicom(brain(), tmp_path / "data" / "CT" / "5" / "DICOM_anon")
    (tmp_path / "data" / "CT" / "6").mkdir()
    (tmp_path / "data" / "CT" / "6" / "DICOM_anon").touch()
    save(mask(), tmp_path / "data" / "liver" / "5.nii.gz")
    catalog, dataset, cases = cases_of(path)
    assert [case.name for case in cases] == ["5"]
    scan = read_case(cases[0], dataset, catalog.region("brain"))
    assert scan.roi.same_grid(scan.volume)


def test_modalities_come_in_the_order_the_dataset_lists_them(tmp_path):
    save_two(tmp_path, "a")
    catalog, dataset, (case,) = cases_of(make_two(tmp_path))
    assert [image.name for image in case.images] == ["a_flair.nii.gz", "a_t1.nii.gz"]
    assert case.image == case.images[0]
    scan = read_case(case, dataset, catalog.region("brain"))
    assert [volume.array.tobytes() for volume in scan.volumes] == [brain(seed=s).array.tobytes() for s in (0, 1)]
    assert scan.volume is scan.volumes[0]


def test_modalities_are_chosen_and_ordered_by_name(tmp_path):
    save_two(tmp_path, "a")
    catalog = load_catalog(make_two(tmp_path))
    dataset, regions = catalog.in_modalities("mine", ["T1", "FLAIR"])
    assert [image.name for image in find_cases(dataset, "mine")[0].images] == ["a_t1.nii.gz", "a_flair.nii.gz"]
    assert [(region.name, region.modality) for region in regions] == [("brain", "T1"), ("brain", "FLAIR")]
    dataset, (region,) = catalog.in_modalities("mine", ["T1"])
    assert (dataset.modality, dataset.layout.image, region.modality) == ("T1", ("{case}_t1.nii.gz",), "T1")
    with pytest.raises(CatalogError, match="T2 is no modality of it; there are FLAIR, T1"):
        catalog.in_modalities("mine", ["FLAIR", "T2"])
    with pytest.raises(CatalogError, match="T1 is named twice"):
        catalog.in_modalities("mine", ["T1", "T1"])


def test_a_case_that_lacks_a_modality_is_told_with_where_it_should_be(tmp_path):
    save_two(tmp_path, "a")
    (tmp_path / "data" / "a_t1.nii.gz").rename(tmp_path / "data" / "b_t1.nii.gz")
    catalog, dataset, cases = cases_of(make_two(tmp_path))
    for case, lacking in zip(cases, ("T1 scan is missing; expected at a_t1", "FLAIR scan is missing"), strict=True):
        with pytest.raises(ScanError, match=lacking):
            read_case(case, dataset, catalog.region("brain"))


def test_modalities_on_different_grids_are_refused_by_their_files(tmp_path):
    save_two(tmp_path, "a")
    save(brain().with_array(brain().array[:-1]), tmp_path / "data" / "a_t1.nii.gz")
    catalog, dataset, (case,) = cases_of(make_two(tmp_path))
    with pytest.raises(ScanError, match=r"a_t1\.nii\.gz is not on the grid of .*a_flair\.nii\.gz"):
        read_case(case, dataset, catalog.region("brain"))


def test_a_corpus_takes_the_modality_asked_for_or_its_regions_own(tmp_path):
    catalog = load_catalog(make_two(tmp_path))
    assert catalog.in_one_modality("mine")[0].modality == "FLAIR"
    assert catalog.in_one_modality("mine", "T1")[1].modality == "T1"
    each = load_catalog(make_two(tmp_path, region="{FLAIR: brain, T1: t1}"))
    with pytest.raises(CatalogError, match=r"has the modalities FLAIR, T1.*say which with --modality"):
        each.in_one_modality("mine")
    dataset, region = each.in_one_modality("mine", region="t1")
    assert (dataset.modality, dataset.region, region) == ("T1", "t1", each.region("t1"))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"layout": 'image: "{case}.nii.gz"'}, "must map each of FLAIR, T1 to its pattern"),
        ({"layout": 'image: {FLAIR: "{case}.nii.gz", T2: "{case}_t2.nii.gz"}'}, "maps FLAIR, T2, but modality says"),
        ({"layout": 'image: {FLAIR: "{case}.nii.gz", T1: "{case}.nii.gz"}'}, "gives one pattern twice"),
        ({"layout": 'image: {FLAIR: "{case}.nii.gz", T1: "t1.nii.gz"}'}, "contain {case}"),
        ({"modality": "[FLAIR, T1, T1]"}, "names each modality once"),
        ({"region": "{FLAIR: brain}"}, "region maps FLAIR, but modality says FLAIR, T1"),
        ({"region": "{FLAIR: brain, T1: nowhere}"}, "no region nowhere"),
        ({"region": "{FLAIR: brain, T1: other}"}, "regions brain and other differ in orientation"),
    ],
)
def test_modalities_that_do_not_go_together_are_told_in_one_line(tmp_path, changed, told):
    assert told in refusal(make_two(tmp_path, **changed))


def test_one_window_of_intensities_does_not_serve_two_modalities(tmp_path):
    path = make_two(tmp_path)
    window = "brain: {modality: FLAIR, normalisation: {kind: window}}"
    text = path.read_text(encoding="utf-8").replace("brain: {modality: FLAIR}", window)
    path.write_text(text, encoding="utf-8")
    assert "fits one modality" in refusal(path)
    path.write_text(text.replace("region: brain", "region: {FLAIR: brain, T1: t1}"), encoding="utf-8")
    assert len(load_catalog(path).in_modalities("mine")[1]) == 2


def test_development_scans_are_found(dev_data):
    catalog = load_catalog(CATALOGS[1])
    found = {name: [case.name for case in find_cases(catalog.dataset(name), name)] for name in catalog.datasets}
    assert {"healthy", "ms07", "ms19", "ms26", "thick04", "thick20"} <= set(found["dev-flair-normal"])
    gliomas = {"gli00000", "gli01476", "gli01480", "gli01482", "gli01483", "gli01484", "glioma0002", "glioma0005"}
    assert gliomas | {"tcga-fg-6692"} <= set(found["dev-flair-tumour"])
    assert {"chaos", "ts"} <= set(found["dev-liver-normal"])
    assert not any(case.problem for name in catalog.datasets for case in find_cases(catalog.dataset(name), name))


# What a catalog's pattern finds, but cannot be read.


def problems(path: Path) -> dict[str, str]:
    return {case.name: case.problem for case in cases_of(path)[2]}


@pytest.mark.parametrize(
    ("layout", "link"),
    [
        ('image: "{case}_flair.nii.gz"', "gone_flair.nii.gz"),
        ('image: "{case}/flair.nii.gz"', "gone"),
        ('image: "{case}/a/flair.nii.gz"', "gone"),
        ('image: "{case}_ct"\n      kind: dicom', "gone_ct"),
        ('image: "all/{case}/ct"\n      kind: dicom', "all/gone"),
    ],
)
def test_a_link_to_nothing_is_a_case_that_is_named(tmp_path, layout, link):
    (tmp_path / "data" / link).parent.mkdir(parents=True)
    (tmp_path / "data" / link).symlink_to("../.git/annex/objects/none")
    assert list(problems(make(tmp_path, layout))) == ["gone"]
    assert f"{link} is a link to nothing; fetch" in problems(make(tmp_path, layout))["gone"]


def test_a_mask_that_is_a_link_to_nothing_is_named(tmp_path):
    save(brain(), tmp_path / "data" / "a_flair.nii.gz")
    (tmp_path / "data" / "a_brain.nii.gz").symlink_to("nothing")
    path = make(tmp_path, 'image: "{case}_flair.nii.gz"\n      roi: "{case}_brain.nii.gz"')
    assert "a_brain.nii.gz is a link to nothing" in problems(path)["a"]


def test_a_folder_under_the_name_of_a_scan_is_named(tmp_path):
    (tmp_path / "data" / "a_flair.nii.gz").mkdir(parents=True)
    assert "is a folder under the name of a file" in problems(make(tmp_path))["a"]


def test_a_name_that_is_not_utf8_becomes_a_case_and_a_source_like_any_other(tmp_path):
    there = save(brain(), tmp_path / "data" / "t_flair.nii.gz")
    raw = os.fsencode(there.parent) + b"/caf\xe9_flair.nii.gz"
    os.rename(os.fsencode(there), raw)
    catalog, dataset, (case,) = cases_of(make(tmp_path))
    assert case.name == "caf%E9"
    assert source_name("mine", case.name).encode("ascii")
    assert os.fsencode(case.image) == raw
    assert read_case(case, dataset, catalog.region("brain")).volume.array.shape == brain().array.shape

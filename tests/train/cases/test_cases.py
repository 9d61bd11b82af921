import gzip
import struct

import numpy as np
import pytest

from scans.catalog.catalog import load_catalog
from scans.catalog.region import Region
from scans.errors import CatalogError, ScanError
from tests.made.modality_pairs import channel, write_pair, write_pairs_catalog
from train.cases.prepared import dataset_cases, prepare_cases


def regions(*modalities, **changed):
    return [Region.model_validate({**channel(modality)["region"], **changed}) for modality in modalities]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    root = tmp_path_factory.mktemp("pairs")
    for seed, name in enumerate(("one", "two")):
        write_pair(root / "data", name, seed=seed, spacing_mm=(4.0, 4.0, 4.0))
    return write_pairs_catalog(root / "catalog.yaml", root / "data")


def prepared(catalog, *modalities, **keywords):
    wanted = regions(*modalities)
    dataset, cases = dataset_cases(load_catalog(catalog), "heads", wanted)
    return prepare_cases(cases, dataset, wanted, 16, [None] * len(wanted), annotated=True, **keywords)


def test_a_networks_modalities_choose_and_order_those_of_the_dataset(pairs):
    both, turned = prepared(pairs, "FLAIR", "T1"), prepared(pairs, "T1", "FLAIR")
    flair, t1 = prepared(pairs, "FLAIR"), prepared(pairs, "T1")
    for case in range(2):
        np.testing.assert_array_equal(both[case].intensity, turned[case].intensity[::-1])
        np.testing.assert_allclose(both[case].intensity, [flair[case].intensity[0], t1[case].intensity[0]], atol=1e-5)
        assert both[case].intensity.shape == (2, 16, 16, 16)
        inside = both[case].intensity[:, both[case].mask].mean(axis=1)
        assert inside[0] > 2, "bright in FLAIR"
        assert inside[1] < -2, "dark in T1"


def test_each_modality_has_its_own_mean_and_deviation(pairs):
    for scan in prepared(pairs, "FLAIR", "T1"):
        for volume in scan.intensity:
            tissue = volume[volume != 0]
            assert tissue.mean() == pytest.approx(0, abs=1e-3)
            assert tissue.std() == pytest.approx(1, abs=1e-3)


def test_a_dataset_that_lacks_a_modality_or_is_of_another_region_is_refused(pairs):
    with pytest.raises(CatalogError, match="heads has no T2, and the network takes FLAIR, T2; there are FLAIR, T1"):
        dataset_cases(load_catalog(pairs), "heads", regions("FLAIR", "T2"))
    with pytest.raises(CatalogError, match="of region brain, the checkpoint of region head"):
        dataset_cases(load_catalog(pairs), "heads", regions("FLAIR", name="head"))


def test_one_modality_goes_with_one_however_each_spells_it(pairs, tmp_path):
    one = tmp_path / "one.yaml"
    two = '{FLAIR: "{case}_flair.nii.gz", T1: "{case}_t1.nii.gz"}'
    text = pairs.read_text(encoding="utf-8").replace("[FLAIR, T1]", "T2-FLAIR").replace(two, '"{case}_flair.nii.gz"')
    one.write_text(text, encoding="utf-8")
    assert len(dataset_cases(load_catalog(one), "heads", regions("FLAIR"))[1]) == 2


def test_a_damaged_header_is_told_of_and_the_rest_prepared(tmp_path):
    for name in ("one", "two", "three"):
        write_pair(tmp_path / "data", name, spacing_mm=(4.0, 4.0, 4.0))
    for name, at, value in [("two", 108, np.inf), ("three", 108, -352)]:
        raw = gzip.decompress((tmp_path / "data" / f"{name}_t1.nii.gz").read_bytes())
        damaged = raw[:at] + struct.pack("<f", value) + raw[at + 4 :]
        (tmp_path / "data" / f"{name}_t1.nii.gz").write_bytes(gzip.compress(damaged))
    catalog, said = write_pairs_catalog(tmp_path / "catalog.yaml", tmp_path / "data"), []
    assert [scan.name for scan in prepared(catalog, "FLAIR", "T1", say=said.append)] == ["one"]
    assert [line.split(":")[0] for line in said] == ["left out three", "left out two"]


def test_a_case_that_lacks_a_modality_is_told_of_and_left_out(tmp_path):
    for name in ("one", "two"):
        write_pair(tmp_path / "data", name, spacing_mm=(4.0, 4.0, 4.0))
    (tmp_path / "data" / "two_t1.nii.gz").unlink()
    catalog, said = write_pairs_catalog(tmp_path / "catalog.yaml", tmp_path / "data"), []
    assert [scan.name for scan in prepared(catalog, "FLAIR", "T1", say=said.append)] == ["one"]
    assert len(said) == 1
    assert "two_flair.nii.gz: its T1 scan is missing" in said[0]
    assert len(prepared(catalog, "FLAIR")) == 2, "who needs no T1 does without"
    (tmp_path / "data" / "one_t1.nii.gz").unlink()
    with pytest.raises(ScanError, match="none of the 2 cases"):
        prepared(catalog, "FLAIR", "T1")

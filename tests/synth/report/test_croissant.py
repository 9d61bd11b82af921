"""Croissant metadata: free of errors by the format's own library, true, and made without a network."""

import fnmatch
import json
import logging
import socket

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scans.durable import sha256
from synth.corpus import Corpus
from synth.report.card import _files, card_files
from synth.report.croissant import croissant
from tests.made.fresh_process import imported_after
from tests.made.hostile_text import texts
from tests.made.retold_corpus import with_sources

DATE = "https://schema.org/datePublished"  # left to whoever publishes: equal corpora have equal metadata


@pytest.fixture(scope="module")
def corpus(corpus_path):
    return Corpus(corpus_path)


@pytest.fixture(scope="module")
def metadata(corpus):
    return croissant(corpus, _files(corpus))


def read(metadata):
    """Return the metadata as the library reads them from a file."""
    import mlcroissant as mlc

    return mlc.Dataset(jsonld=json.loads(json.dumps(metadata)))


def test_the_library_finds_no_error_and_warns_only_of_the_date(metadata, caplog):
    with caplog.at_level(logging.WARNING):
        issues = read(metadata).metadata.issues
    assert not issues.errors
    assert [DATE in warning for warning in issues.warnings] == [True]
    assert "not standard" not in caplog.text  # as it says of a context that lacks words of the format


def test_nothing_is_fetched(corpus, metadata, monkeypatch):
    def refuse(*_):
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert croissant(corpus, _files(corpus)) == metadata
    read(metadata)
    assert isinstance(metadata["@context"], dict)


def test_the_file_in_the_card_is_these_metadata(corpus, metadata):
    assert json.loads(card_files(corpus, samples=1)["croissant.json"]) == metadata


def test_scans_can_be_read_from_the_metadata_alone(corpus, metadata):
    rows = list(read(metadata).records("scans"))
    assert [row["scans/row"] for row in rows] == [0, 1, 2]
    assert [row["scans/as_normal"] for row in rows] == [int((corpus.normal == position).sum()) for position in range(3)]
    for row, source in zip(rows, corpus.sources, strict=True):
        assert row["scans/derived"] is True
        assert [row[f"scans/side_{axis}_mm"] for axis in "zyx"] == source["spacing_mm"]


def test_every_file_is_named_or_belongs_to_the_set(corpus, corpus_path, metadata):
    named = {entry["@id"]: entry for entry in metadata["distribution"] if entry["@type"] == "cr:FileObject"}
    (arrays,) = (entry for entry in metadata["distribution"] if entry["@type"] == "cr:FileSet")
    assert {"zarr.json", "layer/zarr.json"} <= set(named)
    for key, entry in named.items():
        assert entry["sha256"] == sha256(corpus_path / key)
        assert entry["contentSize"] == f"{(corpus_path / key).stat().st_size} B"
    for key in _files(corpus):
        assert key in named or any(fnmatch.fnmatch(key, pattern) for pattern in arrays["includes"])
    assert "layer: 3 files" in arrays["description"]


def test_samples_are_described_with_their_shapes_and_scans(corpus, metadata):
    samples = next(each for each in metadata["recordSet"] if each["@id"] == "samples")
    fields = {each["name"]: each for each in samples["field"]}
    assert {"index", "normal_scan", "donor_scan", "alpha", "volume_mm3", "composite", "mask"} <= set(fields)
    assert fields["mask"]["arrayShape"] == "32,32,32"
    assert fields["donor_scan"]["references"] == {"field": {"@id": "scans/row"}}


def test_responsible_use_is_told(metadata):
    said = ("Collection", "CollectionType", "UseCases", "Limitations", "Biases", "SocialImpact")
    assert all(metadata[f"rai:data{each}"] for each in said)
    assert metadata["rai:personalSensitiveInformation"]
    assert "http://mlcommons.org/croissant/RAI/1.0" in metadata["conformsTo"]


def test_a_licence_is_a_link_where_all_share_it_and_words_where_they_do_not(corpus):
    shared = croissant(with_sources(corpus, licence="CC BY 4.0"), _files(corpus))
    assert shared["license"] == "https://spdx.org/licenses/CC-BY-4.0.html"
    mixed = croissant(with_sources(corpus, licence=["CC BY 4.0", "house rules", "CC BY 4.0"]), _files(corpus))
    assert [each["name"] for each in mixed["license"]] == ["made: CC BY 4.0", "made: house rules"]


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.fixed_dictionaries(dict.fromkeys(("name", "dataset", "licence", "terms", "citation"), texts)), texts)
def test_text_from_scans_makes_no_error(corpus, told, region):
    retold = with_sources(corpus, **told)
    retold.region = {**corpus.region, "name": region, "modality": region}
    json.dumps(croissant(retold, {"zarr.json": {"bytes": 1, "sha256": "0" * 64}}), ensure_ascii=False).encode()
    found = read(
        croissant(retold, {"a b/c.0": {"bytes": 1, "sha256": "0" * 64}, "a b.json": {"bytes": 1, "sha256": "0"}})
    )
    assert not found.metadata.issues.errors


def test_the_library_is_imported_only_to_make_metadata():
    loaded = imported_after(
        "import synth.report.card, synth.report.card_page, synth.report.croissant", "mlcroissant", "pandas"
    )
    assert "synth.report.croissant" in loaded

"""Croissant: what a corpus is, where its files are and how it may be used, as JSON-LD for catalogues of datasets.

Format 1.1 of MLCommons, with the fields of its extension for responsible AI. Croissant has no words for the inside of a
Zarr array: the record set of the samples says what there is, and a Zarr reader is needed to get at it. The record set
of the scans is complete; a program reads it from the metadata alone.
"""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from scans.catalog.terms import Terms, terms_of
from scans.markdown import clean
from synth.generators.way import Way
from synth.report import caveats
from synth.report.generations import generations_of
from synth.report.permissions import common_licence, united
from synth.tumour.number import Number, ordered

if TYPE_CHECKING:
    import mlcroissant as mlc

    from synth.corpus import Corpus


_CONFORMS_TO = ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"]
# What version 1.1 adds to the context that the library starts from.
_CONTEXT = {
    "arrayShape": "cr:arrayShape",
    "containedIn": "cr:containedIn",
    "description": {"@container": "@language"},
    "isArray": "cr:isArray",
    "name": {"@container": "@language"},
}
_ARRAYS = "arrays"  # the set of files that hold them
_VOLUMES = {
    "composite": ("FLOAT16", "what the network sees: the normal with the tumour blended in"),
    "normal": ("FLOAT16", "the scan without the tumour"),
    "texture": ("FLOAT16", "the tumour's layer, 0 outside the mask"),
    "mask": ("UINT8", "1 inside the tumour"),
}
# Numbers of a recipe that come first; others with words follow.
_FIRST = ("index", "alpha", "drawn_volume_mm3", "volume_mm3", "kept", "tries", "ratio", "sigma_mm", "octaves")


def croissant(corpus: "Corpus", files: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Describe a corpus.

    Parameters
    ----------
    corpus : Corpus
        Finished.
    files : mapping of str to mapping
        ``bytes`` and ``sha256`` of each of its files, by path from the folder that the metadata will lie in.

    Returns
    -------
    dict
        JSON-LD without an error by the library's own check. It has no date, so that equal corpora have equal metadata;
        whoever publishes the corpus adds ``datePublished``, ``creator`` and ``url``.

    Notes
    -----
    The library is imported here, since that takes a second and 60 MB, most of it for pandas. It fetches nothing.
    """
    import mlcroissant as mlc

    context = mlc.Context(conforms_to=_CONFORMS_TO[0])
    context.rdf = mlc.Rdf(context={**mlc.Rdf().context, **_CONTEXT})
    ways = [way for _, way in generations_of(corpus)]
    terms = terms_of(corpus.sources)
    metadata = mlc.Metadata(
        ctx=context,
        conforms_to=_CONFORMS_TO,
        name=f"Artificial tumours, {clean(corpus.region['name'])}",
        description=_description(corpus, terms, ways),
        version=f"1.0.0+{corpus.content_hash[:12]}",
        license=_licences(context, terms),
        cite_as=caveats.PAPER,
        keywords=["medical imaging", "tumour segmentation", "synthetic data", clean(corpus.region["modality"])],
        distribution=_distribution(context, files),
        record_sets=[_samples(context, corpus), _scans(context, corpus)],
        data_collection=(
            f"No scan was taken for it. {len(corpus.sources):,} existing scans were prepared, and a program blended "
            "artificial tumours into them."
        ),
        data_collection_type=["Secondary Data Analysis", "Others"],
        data_collection_raw_data="Scans of the datasets in the record set `scans`; zarr.json names each input file.",
        data_preprocessing_protocol=[
            "Each scan was oriented, resampled to a cube around its region of interest and normalised; voxels outside "
            "the region are 0. zarr.json has the settings."
        ],
        data_annotation_protocol=["Nobody drew a mask: the program that blends knows each layer, and stores it."],
        annotations_per_item="1",
        machine_annotation_tools=["Layered Tumors"],
        data_use_cases=[*caveats.USES, *(f"Not for {use[0].lower()}{use[1:]}" for use in caveats.NOT_FOR)],
        data_limitations=caveats.limitations(ways),
        data_biases=caveats.biases(corpus),
        personal_sensitive_information=list(caveats.PRIVACY),
        data_social_impact=caveats.SOCIAL_IMPACT,
        data_release_maintenance_plan="The version tells samples apart: it ends in the first digits of their SHA-256.",
        extra_properties={"citation": list(dict.fromkeys(each.citation for each in terms if each.citation))},
    )
    return metadata.to_json()


def _description(corpus: "Corpus", terms: list[Terms], ways: list[Way]) -> str:
    answers = [
        f"{each.question} {each.answer}" + (f" ({', '.join(each.because)})." if each.because else ".")
        for each in united(terms)
    ]
    return (
        f"{len(corpus):,} artificial tumours in healthy scans, {clean(corpus.region['modality'])}, cubes of "
        f"{corpus.size} voxels a side, for the pretraining of networks that segment tumours. "
        f"{' '.join(caveats.method(ways))} What one source forbids, the corpus forbids. {' '.join(answers)}"
    )


def _licences(context: "mlc.Context", terms: list[Terms]) -> list[Any]:
    """Return the licence of the whole; where there is none, those of the sources."""
    import mlcroissant as mlc

    common = common_licence(terms)
    if common:
        return [_spdx_url(common)]
    return [
        mlc.CreativeWork(
            ctx=context, name=f"{each.dataset}: {each.licence}", url=_spdx_url(each.spdx) if each.spdx else None,
            description=f"{each.terms} Derived data may {'' if each.derived else 'not '}be passed on.",
        )
        for each in terms
    ]  # fmt: skip


def _spdx_url(identifier: str) -> str:
    return f"https://spdx.org/licenses/{identifier}.html"


def _distribution(context: "mlc.Context", files: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    """Return the manifests one by one with their sums, and all else as one set of files: there may be 100,000."""
    import mlcroissant as mlc

    folders: dict[str, list[int]] = {}
    objects: list[Any] = []
    for key, entry in sorted(files.items()):
        path = PurePosixPath(key)
        if len(path.parts) == 1 or (len(path.parts) == 2 and path.suffix == ".json"):
            kind = "application/json" if path.suffix == ".json" else "application/octet-stream"
            objects.append(
                mlc.FileObject(
                    ctx=context, id=quote(key), name=key, content_url=quote(key), content_size=f"{entry['bytes']} B",
                    encoding_formats=[kind], sha256=entry["sha256"],
                )
            )  # fmt: skip
        else:
            folders.setdefault(str(path.parent), []).append(entry["bytes"])
    held = "; ".join(f"{name}: {len(sizes):,} files, {sum(sizes):,} bytes" for name, sizes in sorted(folders.items()))
    shards = mlc.FileSet(
        ctx=context, id=_ARRAYS, name=_ARRAYS, includes=[f"{name}/*" for name in sorted(folders)] or ["*/*"],
        encoding_formats=["application/octet-stream"],
        description=f"Shards of Zarr v3 arrays, a folder an array ({held}). The store keeps the SHA-256 of each.",
    )  # fmt: skip
    return [*objects, shards]


def _samples(context: "mlc.Context", corpus: "Corpus") -> Any:
    """Return what each sample has; where in the files it lies, only a Zarr reader finds."""
    import mlcroissant as mlc

    def field(name: str, kind: str, words: str, **more: Any) -> Any:
        return mlc.Field(
            ctx=context, id=f"samples/{name}", name=name, description=words, data_types=[getattr(mlc.DataType, kind)],
            source=mlc.Source(ctx=context, file_set=_ARRAYS), **more,
        )  # fmt: skip

    cube = {"is_array": True, "array_shape": ",".join([str(corpus.size)] * 3)}
    numbers = [
        field(number.column, "INT64" if number.whole else "FLOAT64", f"{number.words}; a column of the recipes")
        for number in ordered(_numbers(corpus), [name for name in _FIRST if name in corpus.manifest.columns])
        if number.words
    ]
    scans = [
        field(f"{name}_scan", "INT64", words, references=mlc.Source(ctx=context, field="scans/row"))
        for name, words in (("normal", "scan that received the tumour"), ("donor", "scan that lent its texture"))
    ]
    volumes = [
        field(name, kind, f"{words}; axes z, y, x", **cube)
        for name, (kind, words) in _VOLUMES.items()
    ]  # fmt: skip
    return mlc.RecordSet(
        ctx=context, id="samples", name="samples", key=["samples/index"], fields=[*numbers, *scans, *volumes],
        description=f"{len(corpus):,} samples. Read them with synth.corpus.Corpus of the software Layered Tumors, or "
        "the arrays with a Zarr reader; Croissant's own loader cannot.",
    )  # fmt: skip


def _numbers(corpus: "Corpus") -> dict[str, Number]:
    """Return what the numbers of its recipes are, by column."""
    return {column: number for _, way in reversed(generations_of(corpus)) for column, number in way.numbers.items()}


def _scans(context: "mlc.Context", corpus: "Corpus") -> Any:
    """Return the table of scans, its rows within the metadata."""
    import mlcroissant as mlc

    sources = corpus.sources
    normal, donor = (np.bincount(chosen, minlength=len(sources)).tolist() for chosen in (corpus.normal, corpus.donor))
    columns: dict[str, tuple[str, str, list[Any]]] = {
        "row": ("INT64", "number of the scan, from 0", list(range(len(sources)))),
        "name": ("TEXT", "name of the scan", [clean(source["name"]) for source in sources]),
        "dataset": ("TEXT", "dataset it is from", [clean(source["dataset"]) for source in sources]),
        "licence": ("TEXT", "licence of the dataset", [clean(source["licence"]) for source in sources]),
        "derived": ("BOOL", "whether data made from it may be passed on",
                    [source["redistribute_derived"] is True for source in sources]),
        "content_sha256": ("TEXT", "SHA-256 of the prepared scan",
                           [clean(source["content_sha256"]) for source in sources]),
        "as_normal": ("INT64", "samples that have it as normal", normal),
        "as_donor": ("INT64", "samples that have it as donor", donor),
    }  # fmt: skip
    for at, axis in enumerate("zyx"):
        sides = [float(source["spacing_mm"][at]) for source in sources]
        columns[f"side_{axis}_mm"] = ("FLOAT64", f"side of a voxel along {axis}, in mm", sides)
    fields = [
        mlc.Field(
            ctx=context, id=f"scans/{name}", name=name, description=words, data_types=[getattr(mlc.DataType, kind)]
        )
        for name, (kind, words, _) in columns.items()
    ]
    rows = [{f"scans/{name}": values[row] for name, (_, _, values) in columns.items()} for row in range(len(sources))]
    return mlc.RecordSet(
        ctx=context, id="scans", name="scans", key=["scans/row"], fields=fields, data=rows,
        description="The scans that tumours were put into, and that lent their textures.",
    )  # fmt: skip

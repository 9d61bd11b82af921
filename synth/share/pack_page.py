"""The page of a pack on a hub: what the one file beside it is, and under which terms, with the YAML that hubs read."""

from scans.catalog.terms import terms_of
from scans.markdown import plain, table
from scans.page.render import render
from synth.corpus.manifest import Manifest
from synth.report.card_page import answers, front_matter


def pack_page(manifest: Manifest, name: str, url: str, *, voxels: bool) -> str:
    """Return the page.

    Parameters
    ----------
    manifest : Manifest
        Of the corpus that is packed.
    name : str
        Of the file.
    url : str
        Of the repository.
    voxels : bool
        Whether the pack holds them; False: recipes alone.

    Returns
    -------
    str
        Markdown.
    """
    terms, region = terms_of(manifest.sources), manifest.region
    datasets = [
        (each.dataset, each.licence, each.terms, "yes" if each.derived else "no", each.citation, len(each.sources))
        for each in terms
    ]
    page = render(
        "synth",
        "pack_card.md",
        front=front_matter(region, len(manifest), terms),
        title=f"Artificial tumours, {plain(region['name']) or 'region without a name'}",
        count=f"{len(manifest):,}",
        name=name,
        url=url,
        voxels=voxels,
        numbers=table(
            ("", ""),
            [
                ("samples", f"{len(manifest):,}"),
                ("voxels of a sample (z, y, x)", f"{manifest.size} × {manifest.size} × {manifest.size}"),
                ("modality", region["modality"]),
                ("scans", f"{len(manifest.sources):,}"),
                ("identity", manifest.identity),
            ],
        ),
        datasets=table(
            ("dataset", "licence", "terms", "may derived data be passed on?", "citation", "scans"),
            datasets,
            numbers=(5,),
        ),
        answers=answers(terms),
    )
    return f"{page}\n"

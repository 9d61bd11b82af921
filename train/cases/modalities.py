"""Which channels a network has that is trained on a dataset."""

from collections.abc import Sequence
from pathlib import Path

from scans.catalog.catalog import FRAME, load_catalog
from scans.errors import CatalogError
from train.network.channels import Channel


def choose_channels(
    known: Sequence[Channel], catalog: Path, dataset_name: str, modalities: Sequence[str]
) -> list[Channel]:
    """Return the channels of a network that is to be trained on a dataset.

    Parameters
    ----------
    known : sequence of Channel
        Of the checkpoint to begin with; none from scratch.
    catalog : Path
    dataset_name : str
    modalities : sequence of str
        In the network's order. Empty: those of the checkpoint, or from scratch all of the dataset.

    Returns
    -------
    list of Channel
        What the checkpoint knows as it knows it, the rest as the catalog says.

    Raises
    ------
    CatalogError
        If the dataset is unknown or lacks one of them, a new one does not fit the checkpoint's cube, or it is
        normalised by statistics that only a corpus has.
    """
    if known and not modalities:
        return list(known)
    loaded = load_catalog(catalog)
    _, regions = loaded.in_modalities(dataset_name, modalities)
    by_name = {channel.region.modality: channel for channel in known}
    chosen = [by_name.get(region.modality, Channel(region)) for region in regions]
    for channel in chosen:
        region = channel.region
        if region.normalisation.kind == "window" and channel.statistics is None:
            raise CatalogError(
                f"region {region.name} is normalised by statistics of its sources, which "
                f"{'this checkpoint' if known else 'scratch'} has not; "
                "use --init with a checkpoint pretrained on such a corpus"
            )
        for shared in FRAME:
            if known and getattr(region, shared) != getattr(known[0].region, shared):
                raise CatalogError(
                    f"region {region.name} of dataset {dataset_name} and region {known[0].region.name} of the "
                    f"checkpoint differ in {shared}; start from a checkpoint that fits, or from scratch"
                )
    return chosen

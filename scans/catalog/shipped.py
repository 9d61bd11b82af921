"""The catalogs that come with the software, and which file the name of a catalog means."""

from pathlib import Path

SHIPPED = Path(__file__).parents[1] / "shipped"
DEFAULT_CATALOG = Path("data_catalog.yaml")


def shipped_names() -> list[str]:
    """Return the names of the catalogs that come with the software."""
    return sorted(path.name for path in SHIPPED.glob("*.yaml"))


def located(named: str | Path, includer: Path | None = None) -> Path:
    """Return the file that the name of a catalog means, whether or not it is there.

    A path means the file there. So does a plain name; where no such file is, it means the catalog of that name
    that comes with the software. Thus a catalog of one's own includes ``data_catalog.yaml`` wherever it lies, also
    if that is its own name.

    Parameters
    ----------
    named : str or Path
        Relative to the working folder, or to that of `includer`.
    includer : Path, optional
        The catalog that includes it.
    """
    there = Path(named) if includer is None else includer.parent / named
    itself = includer is not None and there.resolve() == includer.resolve()
    if Path(named).name == str(named) in shipped_names() and (itself or not there.exists()):
        return SHIPPED / named
    return there

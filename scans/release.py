"""What this software is called, which release it is, and where its pages are: each said here and nowhere else."""

VERSION = "0.1.0"  # semantic: https://semver.org; a release is the tag of this, v0.1.0
# No public home is known yet: the name of the organisation is a placeholder.
URL = "https://github.com/layered-tumors/layered-tumors"


def page(path: str) -> str:
    """Return the address of a file of this project, as it was in this release.

    Parameters
    ----------
    path : str
        From the project's root, such as ``docs/cluster.md``.
    """
    return f"{URL}/blob/v{VERSION}/{path}"


def picture(path: str) -> str:
    """Return the address of a picture itself, of which `page` is the page around it."""
    return f"{URL}/raw/v{VERSION}/{path}"

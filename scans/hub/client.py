"""The client of hubs: huggingface's own package, with the user's login, set up as this software uses it."""

import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING

from scans.errors import HubError
from scans.release import NAME, VERSION

if TYPE_CHECKING:
    from huggingface_hub import HfApi

MISSING = f"the package for hf:// is missing; pip install '{NAME}[hub]' brings it"


def package(where: object) -> ModuleType:
    """Return huggingface_hub; its bars are drawn in terminals alone.

    Raises
    ------
    HubError
        If it is not installed.
    """
    try:
        import huggingface_hub
        from huggingface_hub.utils import disable_progress_bars, logging
    except ImportError as error:
        raise HubError(f"{where}: {MISSING}") from error
    if not sys.stderr.isatty():
        disable_progress_bars()
    if "HF_HUB_VERBOSITY" not in os.environ:
        logging.set_verbosity_error()  # it warns of each try; what comes of them is told in a sentence
    return huggingface_hub


def endpoint() -> str | None:
    """Return the hub that ``HF_ENDPOINT`` names; None: the package's own."""
    return (os.environ.get("HF_ENDPOINT") or "").rstrip("/") or None


def client(where: object) -> "HfApi":
    """Return a client; the token is that of ``hf auth login`` or ``HF_TOKEN``, asked for with each request."""
    return package(where).HfApi(endpoint=endpoint(), library_name=NAME, library_version=VERSION)


def check_login(where: object) -> None:
    """Raise HubError where nobody is logged in, before anything is read or sent."""
    if not package(where).get_token():
        raise HubError(
            f"{where}: nobody is logged in to the hub; run hf auth login, or set HF_TOKEN to a token that may write"
        )

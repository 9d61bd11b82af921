"""What a hub refuses, and what goes wrong on the way there, each in one sentence."""

import contextlib
import errno
from collections.abc import Iterator

from scans.errors import HubError, UserError

_MOST_WORDS = 200  # letters of another's message


class UnreachableError(HubError):
    """The hub does not answer."""


class NotThereError(HubError):
    """The repository has no such file."""


@contextlib.contextmanager
def asking(where: object) -> Iterator[None]:
    """Turn whatever a hub's client raises within into one sentence about `where`.

    Raises
    ------
    HubError
        `UnreachableError` if the hub does not answer, `NotThereError` if it has no such file. Others, who know the
        folder, tell of a disk that is full or may not be written: such an `OSError` passes, and so does a `UserError`.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        causes = list(_causes(error))
        told = next((said for cause in causes if (said := _sentence(cause))), None)
        if told is None and isinstance(error, OSError) and error.errno not in (None, errno.ENOENT):
            raise
        if told is None:
            words = " ".join(str(causes[-1]).split())[:_MOST_WORDS].rstrip(".")
            told = f"the hub's client stopped ({type(causes[-1]).__name__}: {words}); run the command again"
        absent = any(_names(cause) & {"RemoteEntryNotFoundError", "FileNotFoundError"} for cause in causes)
        kind = UnreachableError if any(map(_gone, causes)) else NotThereError if absent else HubError
        raise kind(f"{where}: {told}") from error


def passing(error: BaseException) -> bool:
    """Whether an error of a hub's client is of the moment: the same request may well succeed soon."""
    return any(_gone(cause) or (_status(cause) or 0) >= 500 or _status(cause) == 429 for cause in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it was raised from, the last thing said first.

    That the cache does not have something either is left out where it is known why the hub did not give it.
    """
    seen: BaseException | None = error
    while seen is not None:
        if seen.__cause__ is None or "LocalEntryNotFoundError" not in _names(seen):
            yield seen
        seen = seen.__cause__


def _names(error: BaseException) -> set[str]:
    """Return the names of an error's classes: the packages that define them may not be installed."""
    return {kind.__name__ for kind in type(error).__mro__}


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _gone(error: BaseException) -> bool:
    names = _names(error)
    return bool(
        names & {"TransportError", "LocalEntryNotFoundError"} or isinstance(error, ConnectionError | TimeoutError)
    )


def _sentence(error: BaseException) -> str | None:
    names, status = _names(error), _status(error)
    said = " ".join(str(getattr(error, "server_message", None) or "").split())[:_MOST_WORDS].rstrip(".")
    if "OfflineModeIsEnabled" in names:
        return "HF_HUB_OFFLINE forbids to ask the hub; unset it"
    if _gone(error):
        return "the hub does not answer; check the network, and HF_ENDPOINT if you set it, and run the command again"
    if "GatedRepoError" in names:
        return "its owners want you to agree to their terms first; do so on its page, then log in with hf auth login"
    if "RevisionNotFoundError" in names:
        return "the hub has no such revision of it; give a branch, a tag or a commit that is there"
    if "RepositoryNotFoundError" in names:
        return "the hub has no such repository, or does not show it to you; check the name, and log in if it is private"
    if "FileNotFoundError" in names or ("EntryNotFoundError" in names and status == 404):
        return "the hub has no such file in it; check the path"
    if status == 401:
        return "the hub does not accept your token; run hf auth login again, or set HF_TOKEN to one that is valid"
    if status == 403:
        return f"your token may not do that ({said or 'forbidden'}); take one that may, or another organisation"
    if status == 429:
        return "the hub has had too many requests from you; wait a few minutes, and run the command again"
    if status is not None and status >= 500:
        return f"the hub fails for the moment (status {status}); run the command again, it goes on where it was"
    if status is not None and status >= 400:
        return f"the hub refuses ({said or f'status {status}'}); check the address, and whether one can do this there"
    if "FileMetadataError" in names:
        return "what answers is no hub; check HF_ENDPOINT and the network"
    if names & {"HFValidationError", "HfUriError"}:
        return "is no name that a hub takes; give hf://datasets/org/name or hf://org/name"
    return None

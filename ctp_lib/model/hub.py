"""Files of a model on the hub: fetched once into the hub client's own cache, checked, and read from there, also offline."""

import hashlib
import re
from pathlib import Path

import httpx
from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ctp_lib.settings.spec import ParameterError

MODEL_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
"""Configuration, tokenizer and weights; pickles are not even fetched."""


def fetch(repository: str, revision: str | None = None, patterns: list[str] = MODEL_FILES) -> Path:
    """The folder of ``repository`` at ``revision`` in the local cache, complete; what is there already is not fetched again.

    Raises :class:`ParameterError`, one sentence with what to do, when the hub does not give it. An interrupted download goes on
    where it stopped when it is asked for again; a file that is not what the hub says it is, is deleted.
    """
    blobs = _cache(repository) / "blobs"
    before = {path.name for path in blobs.glob("*")}
    try:
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=patterns, max_workers=4))
    except Exception as error:
        sentence = _sentence(repository, revision, error)
        if sentence is None:
            raise
        raise ParameterError(sentence) from None
    for blob in sorted(blobs.glob("*")):
        if blob.name not in before and not _intact(blob):
            blob.unlink()
            raise ParameterError(
                f"a file of {repository} is not what the hub says it is (sha256 {blob.name[:12]}... expected); it was deleted, run again to "
                "fetch it anew"
            )
    return folder


def commit(folder: Path) -> str | None:
    """The commit that a folder of the cache holds; None for any other folder."""
    return folder.name if folder.parent.name == "snapshots" and folder.is_relative_to(constants.HF_HUB_CACHE) else None


def _cache(repository: str) -> Path:
    return Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"


def _intact(blob: Path) -> bool:
    """Whether a file has the digest that it is named by: sha256 of large files, git's own of small ones."""
    if re.fullmatch(r"[0-9a-f]{64}", blob.name):
        with blob.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == blob.name
    if re.fullmatch(r"[0-9a-f]{40}", blob.name):
        content = blob.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == blob.name
    return True


def _sentence(repository: str, revision: str | None, error: Exception) -> str | None:
    where = constants.ENDPOINT
    if isinstance(error, GatedRepoError):
        return f"{repository} is gated: ask for access on {where}/{repository}, then log in with `hf auth login` and run again"
    if isinstance(error, RepositoryNotFoundError | HFValidationError):
        return f"{repository} is not on {where}, or it is private; check the name, or log in with `hf auth login`"
    if isinstance(error, RevisionNotFoundError):
        return f"{repository} has no revision {revision!r}; take a branch, tag or commit that {where}/{repository} lists"
    if isinstance(error, EntryNotFoundError | OfflineModeIsEnabled | httpx.ConnectError):
        return f"{repository} is not complete in the cache and {where} cannot be reached; run again when it can, with HF_HUB_OFFLINE unset"
    if isinstance(error, HfHubHTTPError):
        return f"{where} answers {error.response.status_code} for {repository}; run again later, what was fetched is kept"
    if isinstance(error, httpx.HTTPError | OSError):
        return f"the download of {repository} broke off ({type(error).__name__}: {error}); run again, it goes on where it stopped"
    return None

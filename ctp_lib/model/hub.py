"""Files of a model on the hub: fetched once into the hub client's own cache, checked, and read from there, also offline."""

from pathlib import Path

import httpx
from huggingface_hub import HfApi, constants, errors, snapshot_download

from ctp_lib.settings.spec import ParameterError

MODEL_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
"""Configuration, tokenizer and weights; pickles are not even fetched."""


def fetch(repository: str, revision: str | None = None, patterns: list[str] = MODEL_FILES) -> Path:
    """The folder of ``repository`` at ``revision`` in the local cache, complete; what is there already is not fetched again.

    Raises :class:`ParameterError`, one sentence with what to do, when the hub does not give it. An interrupted download goes on where it
    stopped when it is asked for again; files that are not what the hub says they are, are deleted.
    """
    blobs = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}" / "blobs"
    before = set(blobs.glob("*"))
    try:
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=patterns, max_workers=4))
        fetched = set(blobs.glob("*")) - before
        altered = HfApi().verify_repo_checksums(repository, revision=folder.name).mismatches if fetched else []
    except (
        errors.EntryNotFoundError,
        httpx.HTTPError,
        OSError,
        ValueError,
    ) as error:  # a ValueError: names that are none, or lead outside
        raise ParameterError(_sentence(repository, revision, error)) from None
    for file in altered:
        (folder / file["path"]).resolve().unlink(missing_ok=True)
    if altered:
        wrong = f"{altered[0]['path']} of {repository} is not what the hub says it is"
        raise ParameterError(f"{wrong}; it was deleted, run again to fetch it anew")
    return folder


def commit(folder: Path) -> str | None:
    """The commit that a folder of the cache holds; None for any other folder."""
    return folder.name if folder.parent.name == "snapshots" and folder.is_relative_to(constants.HF_HUB_CACHE) else None


def _sentence(repository: str, revision: str | None, error: Exception) -> str:
    where = constants.ENDPOINT
    if isinstance(error, errors.GatedRepoError):
        return f"{repository} is gated: ask for access on {where}/{repository}, then log in with `hf auth login` and run again"
    if isinstance(error, errors.RepositoryNotFoundError | errors.HFValidationError):
        return f"{repository} is not on {where}, or it is private; check the name, or log in with `hf auth login`"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repository} has no revision {revision!r}; take a branch, tag or commit that {where}/{repository} lists"
    if isinstance(error, errors.EntryNotFoundError | errors.OfflineModeIsEnabled | httpx.ConnectError):
        return f"{repository} is not complete in the cache and {where} cannot be reached; run again when it can, with HF_HUB_OFFLINE unset"
    if isinstance(error, errors.HfHubHTTPError):
        return f"{where} answers {error.response.status_code} for {repository}; run again later, what was fetched is kept"
    return f"the download of {repository} broke off ({type(error).__name__}: {error}); run again, it goes on where it stopped"

"""Write a hub-ready folder under ``published/``, and upload it if asked: ``python -m ctp_lib.publishing prompt reference 75%``."""

import argparse
from pathlib import Path

import httpx
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from ctp_lib.publishing import folders
from ctp_lib.settings import study
from ctp_lib.settings.levels import Level
from ctp_lib.settings.spec import ParameterError, first_line, one_sentence


def push(folder: Path, repository: str) -> str:
    """Upload ``folder`` to ``repository``, made private if it is new, and return its address. Raises :class:`ParameterError`."""
    api = HfApi()
    try:
        address = api.create_repo(repository, private=True, exist_ok=True)
        message = f"{folder.name}, by the Compress-then-prompt study"
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message=message)
    except (HfHubHTTPError, httpx.HTTPError, OSError, ValueError) as error:
        wrong = f"{repository} was not uploaded: {first_line(error)}"
        raise ParameterError(f"{wrong}; log in with `hf auth login`, the folder is {folder}") from None
    return str(address)


@one_sentence()
def main() -> None:
    """The command line; one sentence on stderr when it cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m ctp_lib.publishing", description="Write a hub-ready folder under published/.")
    kinds = {"prompt": folders.adapter, "model": folders.compressed_model, "baked": folders.baked}
    parser.add_argument("what", choices=kinds, help="the prompt alone, the compressed model alone, or both in one")
    parser.add_argument("model", help="as in params.yaml, or a folder or hub id that notebooks 02 and 03 were run with")
    parser.add_argument("level")
    parser.add_argument("--seed", type=int, help="of the prompt; the first of soft_prompt.seeds unless given")
    parser.add_argument("--push", metavar="OWNER/NAME", help="upload the folder to this repository, private at first")
    asked = parser.parse_args()
    settings, level = study.load(), Level.parse(asked.level)
    seed = settings.soft_prompt.seeds[0] if asked.seed is None else asked.seed
    of_prompt = () if asked.what == "model" else (seed,)
    folder = kinds[asked.what](settings, asked.model, level, *of_prompt)
    print(folder.relative_to(settings.root))
    if asked.push:
        print(push(folder, asked.push))


if __name__ == "__main__":
    main()

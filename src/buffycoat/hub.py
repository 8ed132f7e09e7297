"""Models of the Hugging Face hub, from folders and from the local cache alone: nothing is downloaded."""

from __future__ import annotations

import os
from pathlib import Path

from buffycoat.errors import InputError


def whole_folder(folder: Path, files: tuple[str, ...], key: str, layout: str) -> Path:
    """Return the folder if it holds all `files`; raises InputError that names the setting `key` and what is absent."""
    if absent := [file for file in files if not (folder / file).is_file()]:
        raise InputError(
            f"{key}: {folder}: no {' and no '.join(absent)}; a folder in {layout} hub layout holds"
            f" {' and '.join(files)}"
        )
    return folder


def cached_folder(place: str, files: tuple[str, ...], key: str, instead: str) -> Path:
    """Return the folder of the local cache that holds `files` of `place`, which is OWNER/NAME[@REVISION].

    Raises InputError that names the setting `key` and says what to fetch, or what to set to a folder `instead`.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import HFValidationError

    owner_and_name, _, revision = place.partition("@")
    try:
        found = [try_to_load_from_cache(owner_and_name, file, revision=revision or None) for file in files]
    except HFValidationError as problem:
        raise InputError(f"{key}: hf-hub:{place}: {problem}") from None
    if not all(isinstance(file, str) for file in found):
        wanted = f"{owner_and_name} {' '.join(files)}" + (f" --revision {revision}" if revision else "")
        raise InputError(
            f"{key}: hf-hub:{place} is not in the cache {HF_HUB_CACHE}, and a run downloads nothing: fetch it on a"
            f" machine with a network by `hf download {wanted}`, or put {' and '.join(files)} of"
            f" huggingface.co/{owner_and_name} into a folder and set {instead}"
        )
    return Path(str(found[0])).parent


def stay_offline() -> None:
    """Forbid this process every download, whatever a library would like to look up."""
    from huggingface_hub import constants

    os.environ["HF_HUB_OFFLINE"] = "1"
    # Read when huggingface_hub is imported, so too late for a library that has been imported before.
    constants.HF_HUB_OFFLINE = True

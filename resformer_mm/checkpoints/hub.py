"""Files of repositories of the Hugging Face hub, fetched only for a name that begins with ``hf-hub:``."""

from __future__ import annotations

from pathlib import Path

from .errors import CheckpointError
from .folders import CONFIG, INDEX, WEIGHT_FILES, sharded

PREFIX = 'hf-hub:'


def fetch(name: str) -> Path:
    """Return the file of the weights of a repository, in the cache of huggingface_hub.

    Its ``config.json``, if there is one, is in the same folder. Both come from the cache where they are
    current, and without a connection.

    Args:
        name: ``hf-hub:owner/name``, perhaps followed by ``@`` and a branch, tag or commit.

    Raises:
        ImportError: huggingface_hub is not installed.
        CheckpointError: there is no such repository, it has no weights that are read, or it cannot be
            reached.
    """
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.utils import EntryNotFoundError, HFValidationError, LocalEntryNotFoundError
    except ImportError as error:
        raise ImportError(f'{name} needs the package huggingface_hub: pip install huggingface_hub') from error
    repository, _, revision = name.removeprefix(PREFIX).partition('@')

    def download(file: str) -> Path | None:
        try:
            return Path(hf_hub_download(repo_id=repository, filename=file, revision=revision or None))
        except LocalEntryNotFoundError:  # not in the cache, and no connection
            raise
        except EntryNotFoundError:
            return None

    try:
        weights = next(filter(None, map(download, WEIGHT_FILES)), None)
        if weights is None:
            for file in WEIGHT_FILES:
                if download(file + INDEX):
                    raise CheckpointError(f'{name} has {sharded(file + INDEX)}')
            raise CheckpointError(f'{name} has neither {" nor ".join(WEIGHT_FILES)}: use another repository')
        download(CONFIG)
    except HFValidationError as error:
        raise CheckpointError(f'{name} is not hf-hub:owner/name or hf-hub:owner/name@revision') from error
    except OSError as error:  # of a server, of a connection, and of the cache
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f'{name} cannot be fetched from the Hugging Face hub: {reason}') from error
    return weights

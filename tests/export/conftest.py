"""A manifest that every test of an export may read; made once."""

from pathlib import Path

import pytest
from curated import curate_films, write_films


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of two films with captions. Read only: see `curated.write_films`."""
    return write_films(tmp_path_factory.mktemp("films"))


@pytest.fixture(scope="session")
def manifest(films: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifest of the two films. Read only."""
    return curate_films(films, tmp_path_factory.mktemp("manifest") / "set")

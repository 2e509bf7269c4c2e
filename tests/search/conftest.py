"""What the tests of a search share: its words as `Trials` takes them, without a command line."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from mnist_lightning.config import compose
from mnist_lightning.search.launch import prepare
from mnist_lightning.search.trials import Trials
from tests.conftest import ALONE

TINY_SEARCH = (*ALONE, "data.val_images=100", "logger=none", "search.name=s")


@sqlalchemy.event.listens_for(sqlalchemy.Engine, "connect")
def hurry(connection: Any, record: Any) -> None:
    """Waits for no disk: a test may lose its database in a power cut."""
    connection.execute("PRAGMA synchronous=OFF")


@pytest.fixture
def open_trials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Trials]]:
    """Opens the trials of a search of a tiny run, in an empty working directory; each call is another worker."""
    monkeypatch.chdir(tmp_path)
    compose.use_directories(None, [], "search")

    def opened(*words: str) -> Trials:
        launch = prepare([*TINY_SEARCH, *words])
        return Trials(launch.directory, launch.words, launch.cfg, launch.search)

    yield opened
    compose.use_directories(None, [])

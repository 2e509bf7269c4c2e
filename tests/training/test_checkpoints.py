"""Checkpoints that are damaged or hold code: one line, and nothing of them is run."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mnist_lightning.config.errors import ConfigError
from mnist_lightning.training import checkpoints


def test_a_damaged_checkpoint_is_one_line_and_runs_nothing(tmp_path: Path) -> None:
    """A changed byte, half a file, no archive, a pickle that calls a function."""
    whole, path = tmp_path / "whole.ckpt", tmp_path / "last.ckpt"
    torch.save({"epoch": 0, "state_dict": {"weight": torch.zeros(1000)}}, whole)
    contents = whole.read_bytes()
    middle = contents.index(bytes(4000)) + 2000
    for damaged in (contents[:middle] + b"\1" + contents[middle + 1 :], contents[: len(contents) // 2], b"text", b""):
        path.write_bytes(damaged)
        with pytest.raises(ConfigError, match=r"last\.ckpt: is no checkpoint of a run: .*[^\n]*$"):
            checkpoints.read(path)

    class Code:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
            return os.mkdir, (str(tmp_path / "made"),)

    torch.save({"epoch": 0, "state_dict": {"weight": Code()}}, path)
    with pytest.raises(ConfigError, match="holds more than weights, code perhaps; nothing of it was run"):
        checkpoints.read(path)
    assert not (tmp_path / "made").exists()

"""`compile=true`: a run like any other, by compiled steps."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mnist_lightning.config.compose import compose_config
from mnist_lightning.inference.load import load
from mnist_lightning.models.layers import dropout
from mnist_lightning.training import compiled
from mnist_lightning.training.fit import run
from tests.conftest import TINY, Finished, assert_same_weights, killed_at, one_error, read_rows

# 304 images: four whole batches and one of 48. A network that is quickly compiled, with dropout on its maps.
SMALL = (*TINY, "compile=true", "data.train_images=304", "model=plan", "model.plan=[v2,o30,p,v2,o30,gap,head]")
SMALL += ("trainer.max_epochs=2", "gate.on_miss=warn")
DROPPED = [48 * 2 * 26 * 26, 48 * 2 * 11 * 11]  # elements, without the compiler: of the smaller batch
IN_THE_SECOND = 7  # step, the second of an epoch's five


@pytest.fixture
def dropped(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Elements of each dropout that was not compiled."""
    numbers: list[int] = []
    positions = dropout.dropped_positions

    def record(num: int, p: float) -> Tensor:
        numbers.append(num)
        return positions(num, p)

    monkeypatch.setattr(dropout, "dropped_positions", record)
    return numbers


@pytest.mark.slow
def test_a_killed_run_resumes_bit_equal(tmp_path: Path, dropped: list[int]) -> None:
    """And its checkpoint is one of a run that is not compiled."""
    run(compose_config(*SMALL), tmp_path / "straight")
    assert dropped == 2 * DROPPED  # compiled anew in every run, for whole batches
    with killed_at(IN_THE_SECOND):
        run(compose_config(*SMALL), tmp_path / "resumed")
    assert len(read_rows(tmp_path / "resumed")) == 1
    run(compose_config(*SMALL, "resume=true"), tmp_path / "resumed")
    assert dropped == 4 * DROPPED
    assert_same_weights(tmp_path / "straight", tmp_path / "resumed")
    assert load(tmp_path / "straight").sizes["params"] == 82  # a checkpoint like any other


@pytest.mark.slow
def test_compiled_dropout_is_the_uncompiled_hash() -> None:
    """To the last bit: the compiler's C++ wraps around where torch does."""
    key = torch.tensor([2**31 - 1, -12345], dtype=torch.int32)
    by_inductor = torch.compile(dropout.hashed, dynamic=False)
    assert torch.equal(by_inductor(10_007, key), dropout.hashed(10_007, key))


@pytest.mark.slow
def test_without_a_compiler_it_is_refused_in_one_line(
    cli: Callable[..., Finished], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))  # nothing compiled before counts
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("/no/such/g++",))
    said = one_error(cli(*SMALL), 2)
    assert said.startswith("compile=true: nothing can be compiled here (")
    assert said.endswith("; install g++, or use compile=false")
    assert len(said) <= 200
    assert not list(tmp_path.rglob("*.ckpt"))


def test_what_is_missing_may_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise NotImplementedError

    monkeypatch.setattr(torch, "compile", lambda function: fail)
    with pytest.raises(compiled.ConfigError, match="NotImplementedError"):
        compiled.require_compiler(torch.device("cpu"))

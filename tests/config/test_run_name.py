"""Names of runs: they tell runs apart, need no quoting anywhere, and are legal on Windows."""

import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from mnist_lightning.config.compose import CONF_DIR
from mnist_lightning.config.run_name import run_name


def name_of(*overrides: str) -> str:
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return run_name(compose("config", overrides=list(overrides), return_hydra_config=True))


def test_runs_are_named_by_what_tells_them_apart() -> None:
    assert name_of() == "net3/lr-0.015/seed-0"
    assert name_of("model=net2", "optimizer.lr=0.1", "seed=7") == "net2/lr-0.1/seed-7"
    assert name_of("model.dropout=0", "trainer.max_epochs=3") == "net3/lr-0.015/seed-0/model.dropout-0+trainer.max_epochs-3"
    assert name_of("experiment=exp1") == "net1/lr-0.01/seed-0/experiment-exp1"
    assert name_of("data.root=/a/b/c") == "net3/lr-0.015/seed-0"


HOSTILE = ["+model.note='../../x y<b>'", "model.channels=[8,16,8]", "+model.note='a:b|c?'", "+model.note='é\u202e'", "+x='a='"]


@pytest.mark.parametrize("override", [*HOSTILE, f"model.channels=[{','.join(['100'] * 200)}]"])
def test_names_need_no_quoting_are_legal_on_windows_and_short(override: str) -> None:
    name = name_of(override, "optimizer.lr=1e-05")
    assert re.fullmatch(r"[A-Za-z0-9._+/-]+", name)
    assert len(Path(name).parts) == 4
    assert not any(part.startswith(".") or part.endswith(".") for part in Path(name).parts)
    assert len(f"outputs/sweeps/2026-01-01_00-00-00-abcdef/{name}") < 200
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):  # and Hydra's grammar takes it as it stands
        given = compose("config", overrides=[f"hydra.run.dir=outputs/{name}"], return_hydra_config=True).hydra.run.dir
    assert given == f"outputs/{name}"


def test_two_values_have_two_names() -> None:
    assert name_of("+model.note='a b'") != name_of("+model.note='a_b'")
    assert name_of("model.channels=[1,23]") != name_of("model.channels=[12,3]")

"""Every argument of `lightning.Trainer` does with a run what docs/configuration.md says."""

import inspect
import re
from pathlib import Path

import lightning as L
import pytest

from mnist_lightning.config.compose import compose_config
from mnist_lightning.config.errors import ConfigError
from mnist_lightning.evaluation.gate import NotMeasuredError
from mnist_lightning.training.fit import run
from tests.conftest import TINY, read_rows, read_verdict

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text("utf-8")
ROWS = re.findall(r"^\| `(\w+)` \| `(\+?trainer\.[^`]*)` \| (works|refused|set)", PAGE, flags=re.MULTILINE)
SMALL = (*TINY, "data.train_images=130", "gate.on_miss=warn")
WITH = {"plugins": ["trainer.precision=null"], "limit_test_batches": ["data.val_images=20"]}
CUT_SHORT = ("max_steps",)


def test_the_table_has_every_argument_once() -> None:
    assert [name for name, _, _ in ROWS] == [name for name in inspect.signature(L.Trainer).parameters if name != "self"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*(could not find the monitored key|benchmark=True)")
@pytest.mark.parametrize(("name", "override", "what"), ROWS, ids=[name for name, _, _ in ROWS])
def test_each_argument_does_what_the_table_says(
    name: str, override: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cfg = compose_config(*SMALL, override, *WITH.get(name, []))
    if what != "works":
        with pytest.raises(ConfigError, match=rf"^trainer\.{name}="):
            run(cfg, tmp_path / "run")
        return
    if name in CUT_SHORT:
        with pytest.raises(NotMeasuredError):
            run(cfg, tmp_path / "run")
    else:
        assert run(cfg, tmp_path / "run").epochs == 1
    assert len(read_rows(tmp_path / "run")) == read_verdict(tmp_path / "run")["epochs"] == 1


def test_an_epoch_that_is_cut_short_has_its_own_figures_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cfg = compose_config(*TINY, "trainer.max_epochs=3", "+trainer.max_steps=7")  # of 5 an epoch
    with pytest.raises(NotMeasuredError, match=r"not measured within .* at epoch 2; `evaluate` measures it"):
        run(cfg, tmp_path)
    first, second = read_rows(tmp_path)
    assert (first["step"], second["step"]) == ("5", "7")
    assert first["train/loss"] != second["train/loss"]
    assert second["test/acc"] == ""
    assert "epoch 2/3 (only 2 of 5 batches)  train loss" in capsys.readouterr().out
    assert read_verdict(tmp_path)["status"] == "error"


@pytest.mark.parametrize("strategy", ["ddp_fork", "ddp_spawn", "ddp_notebook"])
def test_a_strategy_whose_results_stay_in_other_processes_is_refused(strategy: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"^trainer.strategy={strategy}: "):
        run(compose_config(*SMALL, "trainer=ddp", f"trainer.strategy={strategy}"), tmp_path)


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "16-true"])
def test_images_have_the_precision_of_the_weights(precision: str, tmp_path: Path) -> None:
    assert run(compose_config(*SMALL, f"trainer.precision={precision}"), tmp_path).epochs == 1

"""A trial as a preset of one's own."""

import json
from pathlib import Path

import pytest

from mnist_lightning.config.compose import compose_config
from mnist_lightning.config.errors import ConfigError
from mnist_lightning.search.adopt import RECORD, adopt, newest

WORDS = ["gate.max_params=2501", "experiment=best", "search.trials=2", "data.val_images=5000", "+search.vary={seed:[1]}"]
TRIALS = """trial,state,accuracy,params,size,overrides
3,finished,0.9935,2000,2000,"model.plan=[c8,p,c8+,p,d16@a,d16@a,gdc,head] optimizer.lr=0.05"
4,finished,0.9945,2490,2490,"model.plan=[c10,p,c9,p,gdc,head] optimizer.lr=0.07"
5,finished,0.9941,2400,2400,"model.plan=[c9,p,c9,gdc,head] optimizer.lr=0.07"
6,finished,0.9945,2450,2450,"model.plan=[c10,p,c9,gdc,head] optimizer.lr=0.07"
7,pruned,0.9950,1000,1000,"model.plan=[c4,gap,head] optimizer.lr=0.07"
8,finished,0.9942,2300,9000,"model.plan=[c4,gap,head] optimizer.lr=0.07"
"""


@pytest.fixture
def search_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    directory = Path("outputs/search/s")
    directory.mkdir(parents=True)
    (directory / RECORD).write_text(json.dumps({"words": WORDS, "asked": {}}), "utf-8")
    (directory / "search.csv").write_text(TRIALS, "utf-8")
    return directory


def test_the_preset_composes_what_the_trial_ran_but_for_the_hold_out(search_dir: Path) -> None:
    assert adopt(search_dir, 3, "mine") == (Path("conf/experiment/mine.yaml"), 3)
    ran = ["experiment=best", "gate.max_params=2501", "model.plan=[c8,p,c8+,p,d16@a,d16@a,gdc,head]", "optimizer.lr=0.05"]
    assert compose_config("experiment=mine") == compose_config("model=plan", *ran)
    assert "plan: [c8, p, c8+, p, d16@a, d16@a, gdc, head]" in Path("conf/experiment/mine.yaml").read_text("utf-8")


@pytest.mark.parametrize(("target", "best"), [("0.994", 5), ("0.999", 6)])
def test_the_best_is_the_smallest_at_the_target_or_the_most_accurate(search_dir: Path, target: str, best: int) -> None:
    words = [*WORDS, f"gate.min_accuracy={target}"]
    (search_dir / RECORD).write_text(json.dumps({"words": words, "asked": {}}), "utf-8")
    assert adopt(newest(), None, "mine")[1] == best


def test_nothing_is_overwritten_and_no_unfinished_trial_is_adopted(search_dir: Path) -> None:
    adopt(search_dir, 3, "mine")
    for name in ("mine", "best", "my net"):
        with pytest.raises(ConfigError, match=rf"--name {name}: "):
            adopt(search_dir, 3, name)
    with pytest.raises(ConfigError, match="no trial 7 finished"):
        adopt(search_dir, 7, "other")
    with pytest.raises(ConfigError, match="holds no search"):
        adopt(Path("outputs"), 3, "other")

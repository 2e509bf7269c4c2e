"""A class of one's own starts from an empty group, whatever composes: a command, a job of a sweep, `--cfg job`."""

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from mnist_lightning.config.check import check
from mnist_lightning.config.compose import compose_config
from mnist_lightning.evaluation.gate import GateError
from mnist_lightning.training import fit
from tests.conftest import TINY, Finished, one_error, throw

ADAM = "optimizer._target_=torch.optim.Adam"
STEP_LR = "scheduler._target_=torch.optim.lr_scheduler.StepLR"
OWN = {
    "optimizer": ([ADAM], {"_partial_": True}),
    "scheduler": (["scheduler=onecycle", STEP_LR, "+scheduler.step_size=6"], {"_partial_": True, "step_size": 6}),
    "model": (["model._target_=my.Net", "+model.activation=gelu", "+model.depth=3"], {"activation": "gelu", "depth": 3}),
    "augmentation": (["augmentation=elastic", "augmentation._target_=my.Blur", "augmentation.fill=9"], {"fill": 9}),
}


@pytest.mark.parametrize("group", OWN)
def test_what_only_the_chosen_yaml_gave_goes(group: str) -> None:
    overrides, left = OWN[group]
    cfg = compose_config(*overrides)
    check(cfg)
    assert {key: value for key, value in cfg[group].items() if key != "_target_"} == left
    for other in OWN.keys() - {group}:
        assert cfg[other] == compose_config()[other]


@pytest.mark.parametrize("sign", ["", "+", "++"])
def test_keys_of_the_empty_group_are_given_with_or_without_a_plus(sign: str) -> None:
    optimizer = compose_config(ADAM, f"{sign}optimizer.lr=0.015", f"{sign}optimizer.amsgrad=true").optimizer
    assert (optimizer.lr, optimizer.amsgrad, len(optimizer)) == (0.015, True, 4)


def test_what_cannot_be_read_is_told_as_it_was_typed(cli: Callable[..., Finished]) -> None:
    assert one_error(cli(ADAM, "optimizer.betas=[0.9"), 2).startswith("optimizer.betas=[0.9: cannot be read as key=value")


def test_keys_of_an_experiment_stay() -> None:
    optimizer = compose_config("experiment=best", ADAM).optimizer
    assert optimizer == {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 0.1, "momentum": 0.9}


def test_the_class_of_the_chosen_yaml_keeps_its_keys() -> None:
    assert compose_config("optimizer._target_=torch.optim.SGD") == compose_config()
    elastic = compose_config("augmentation=elastic").augmentation
    assert (elastic.degrees, elastic.knots) == (10.0, 6)


def test_cfg_job_prints_what_will_be_run(cli: Callable[..., Finished]) -> None:
    done = cli(ADAM, "--cfg", "job", "--package", "optimizer")
    assert done.out == "# @package optimizer\n_target_: torch.optim.Adam\n_partial_: true\n"


def test_the_jobs_of_a_sweep_start_empty_and_are_named_so(
    cli: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[DictConfig, Path]] = []
    monkeypatch.setattr(fit, "run", lambda cfg, output_dir: throw(GateError(begun.append((cfg, output_dir)))))
    cli("--multirun", ADAM, "+optimizer.weight_decay=0,0.1", "sweep.jobs=1")
    assert [cfg.optimizer.weight_decay for cfg, _ in begun] == [0, 0.1]
    assert not any("lr" in cfg.optimizer or "lr-" in str(directory) for cfg, directory in begun)


def test_a_run_is_written_so_and_found_again(cli: Callable[..., Finished], tmp_path: Path) -> None:
    command = (*TINY, "optimizer._target_=torch.optim.Rprop", "scheduler=constant")
    assert cli(*command).status == 0
    [written] = tmp_path.rglob("config.yaml")
    assert OmegaConf.load(written).optimizer == {"_target_": "torch.optim.Rprop", "_partial_": True}
    assert "KEPT" in cli(*command, "resume=true").out

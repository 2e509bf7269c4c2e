"""Every choice of every group, every rule, and the lines that refuse a bad value."""

import re
from pathlib import Path

import pytest
import torch
import yaml

from mnist_lightning.config.build import build
from mnist_lightning.config.check import check
from mnist_lightning.config.compose import CONF_DIR, compose_config
from mnist_lightning.config.errors import ConfigError
from mnist_lightning.config.run_name import run_name
from mnist_lightning.models import Net3

GROUPS = ("model", "optimizer", "scheduler", "augmentation", "data")


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF_DIR / group).glob("*.yaml"))


@pytest.mark.parametrize("choice", [f"{group}={name}" for group in GROUPS for name in choices(group)])
def test_every_choice_of_every_group_passes_its_rules_and_builds(choice: str) -> None:
    cfg = compose_config(choice)
    check(cfg)
    parameters = Net3().parameters()
    match choice.split("=")[0]:
        case "optimizer":
            assert isinstance(build(cfg, "optimizer")(parameters), torch.optim.Optimizer)
        case "scheduler":
            build(cfg, "scheduler")(torch.optim.SGD(parameters, lr=0.1, momentum=0.9), 100)
        case "data":
            build(cfg, "data", seed=0, augmentation=torch.nn.Identity())
        case "augmentation":
            assert build(cfg, "augmentation")(torch.rand(4, 1, 28, 28) * 255).shape == (4, 1, 28, 28)
        case group:
            assert isinstance(build(cfg, group), torch.nn.Module)


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("exp1", {"model": "Net1", "lr": 0.01, "dropout": None, "augmentation": "Identity", "on_miss": "warn"}),
        ("exp2", {"model": "Net2", "lr": 0.01, "dropout": 0.05, "augmentation": "Identity", "on_miss": "warn"}),
        ("exp3", {"model": "Net3", "lr": 0.015, "dropout": 0.025, "augmentation": "Published", "on_miss": "fail"}),
    ],
)
def test_experiments_are_the_published_recipes(name: str, published: dict[str, object]) -> None:
    cfg = compose_config(f"experiment={name}")
    check(cfg)
    assert cfg.model._target_.endswith(str(published["model"]))
    assert cfg.model.get("dropout") == published["dropout"]
    assert cfg.augmentation._target_.endswith(str(published["augmentation"]))
    assert cfg.optimizer == {
        "_target_": "torch.optim.SGD",
        "_partial_": True,
        "lr": published["lr"],
        "momentum": 0.9,
        "nesterov": False,
        "weight_decay": 0.0,
    }
    assert cfg.scheduler._target_.endswith("constant")
    assert (cfg.data.batch_size, cfg.data.val_images, cfg.trainer.max_epochs) == (128, 0, 15)
    assert (cfg.gate.rule, cfg.gate.on_miss) == ("best", published["on_miss"])
    assert (cfg.gate.max_params, cfg.gate.min_accuracy, cfg.gate.within_epochs) == (8000, 0.994, 15)


def test_published_augmentation_has_the_published_figures() -> None:
    augmentation = compose_config("experiment=exp3").augmentation
    assert (augmentation.brightness, augmentation.contrast, augmentation.degrees) == (0.4, 0.4, 5.0)


def test_a_preset_can_be_overridden() -> None:
    assert compose_config("experiment=exp3", "optimizer.lr=0.02", "model=net2").optimizer.lr == 0.02


def test_the_default_is_the_contract_of_the_study() -> None:
    cfg = compose_config()
    assert cfg.model._target_.endswith("Net3")
    assert (cfg.optimizer._target_, cfg.optimizer.lr, cfg.optimizer.momentum) == ("torch.optim.SGD", 0.015, 0.97)
    assert cfg.gate == {"max_params": 8000, "min_accuracy": 0.994, "within_epochs": 15, "rule": "last", "on_miss": "fail"}


def test_a_hold_out_changes_the_default_rule() -> None:
    assert compose_config("data.val_images=5000").gate.rule == "selected"
    assert compose_config("data.val_images=5000", "gate.rule=last").gate.rule == "last"


DEVICES = "trainer.devices must be a number of at least 1, or a list of indices of devices"
# Overrides, and the whole line that refuses them.
BAD = [
    ("trainer.max_epochs=0", "trainer.max_epochs must be an integer of at least 1; try trainer.max_epochs=15"),
    ("trainer.max_epochs=1.5", "trainer.max_epochs must be an integer of at least 1; try trainer.max_epochs=15"),
    ("trainer.devices=x", f"{DEVICES}; try trainer.devices=1"),
    ("trainer.devices=0", f"{DEVICES}; try trainer.devices=1"),
    ("trainer.devices=[]", f"{DEVICES}; try trainer.devices=1"),
    ("optimizer.lr=-1", "optimizer.lr must be a number above 0, at most 1e30; try optimizer.lr=0.015"),
    ("optimizer.lr=0", "optimizer.lr must be a number above 0, at most 1e30; try optimizer.lr=0.015"),
    ("optimizer.lr=nan", "optimizer.lr must be a number above 0, at most 1e30; try optimizer.lr=0.015"),
    ("optimizer.lr=inf", "optimizer.lr must be a number above 0, at most 1e30; try optimizer.lr=0.015"),
    ("optimizer.lr=fast", "optimizer.lr must be a number above 0, at most 1e30; try optimizer.lr=0.015"),
    ("optimizer.lr=null", "optimizer.lr must be a number above 0, at most 1e30; try optimizer.lr=0.015"),
    ("optimizer.momentum=1", "optimizer.momentum must be a number of at least 0 and below 1; try optimizer.momentum=0.9"),
    (
        "data.batch_size=0",
        "data.batch_size must be an integer of at least 2, for batch norms; try data.batch_size=64",
    ),
    (
        "data.batch_size=true",
        "data.batch_size must be an integer of at least 2, for batch norms; try data.batch_size=64",
    ),
    (
        "data.val_images=60000",
        "data.val_images must be an integer from 0 (no hold-out) to 50000 (every class keeps images to train on); "
        "try data.val_images=5000",
    ),
    (
        "gate.min_accuracy=99.4",
        "gate.min_accuracy must be a fraction above 0 and at most 1 (99.4 % is 0.994); try gate.min_accuracy=0.994",
    ),
    ("gate.min_accuracy=0", "gate.min_accuracy must be a fraction above 0 and at most 1 (99.4 % is 0.994); try "),
    ("gate.rule=bset", "gate.rule must be one of best, last, mean_last_3, selected; try gate.rule=last"),
    ("gate.max_params=0", "gate.max_params must be an integer of at least 1; try gate.max_params=8000"),
    ("gate.on_miss=ignore", "gate.on_miss must be fail or warn; try gate.on_miss=fail"),
    ("augmentation.degrees=abc", "augmentation.degrees must be a number of degrees from 0 to 180; try augmentation.degrees=10"),
    ("augmentation.interpolation=cubic", "augmentation.interpolation must be bilinear or nearest; try "),
    ("augmentation.scale=[1]", "augmentation.scale must be a list of the lowest and the highest factor; try "),
    ("augmentation.scale=[1.1,0.9]", "the lowest factor comes first; try [0.9,1.1]"),
    ("model.dropout=1", "model.dropout must be a probability, at least 0 and below 1; try model.dropout=0.025"),
    ("scheduler.warmup=1", "scheduler.warmup must be a fraction of the run, at least 0 and below 1; try scheduler.warmup=0.05"),
    ("seed=-1", "seed must be an integer from 0 to 4294967295; try seed=0"),
    ("seed=null", "seed must be an integer from 0 to 4294967295; try seed=0"),
    ("gate.rule=selected", "the rule needs a hold-out to select on, and data.val_images is 0; try data.val_images=5000"),
    ("trainer.max_epochs=16", "with gate.rule=last the accuracy is that of the end of the run, which lies beyond "),
]


@pytest.mark.parametrize(("override", "line"), BAD, ids=[override for override, _ in BAD])
def test_a_bad_value_is_refused_in_one_line(override: str, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check(compose_config(override))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{override}: {line}")


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        check(compose_config("optimizer.lr=-1", "seed=-1", "gate.max_params=0"))
    assert [line.split("=")[0] for line in str(caught.value).splitlines()] == ["optimizer.lr", "gate.max_params", "seed"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.val_images=5000", "gate.rule=best"], "gate.rule=best: the rule needs the test accuracy of every epoch"),
        (["trainer.max_epochs=2", "gate.rule=mean_last_3"], "gate.rule=mean_last_3 needs at least 3 epochs"),
        (["data=synthetic", "data.val_images=9991"], "holds out every image of a class of data.train_images=10000"),
        (["trainer.devices=2"], "trainer.devices=2: several devices for one run need trainer=ddp"),
        (
            ["trainer=ddp", "trainer.devices=3"],
            "data.batch_size=64: 3 processes cannot share it evenly; try data.batch_size=63",
        ),
        (["trainer=ddp", "cuda_graph=true"], "cuda_graph=true: records the step of one process"),
        (["optimizer.momentum=0"], "optimizer.nesterov=true: needs a momentum"),
    ],
)
def test_values_that_do_not_go_together_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        check(compose_config(*overrides))


def test_the_bounds_themselves_are_allowed() -> None:
    check(compose_config("gate.min_accuracy=1", "seed=4294967295", "data.val_images=50000", "model.dropout=0"))
    check(compose_config("trainer.max_epochs=20", "gate.rule=best"))
    check(compose_config("trainer.max_epochs=20", "gate.within_epochs=20"))


def test_an_added_argument_that_nobody_takes_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"optimizer.lrr=1: SGD takes no lrr; it takes params, lr, momentum"):
        build(compose_config("+optimizer.lrr=1"), "optimizer")


def test_an_added_argument_that_is_known_is_passed_on() -> None:
    optimizer = build(compose_config("+optimizer.dampening=0", "+optimizer.maximize=true"), "optimizer")
    assert optimizer(Net3().parameters()).defaults["maximize"] is True


def test_a_network_of_the_users_own_needs_no_change_here() -> None:
    cfg = compose_config("model._target_=torch.nn.LazyLinear", "~model.channels", "~model.dropout", "+model.out_features=10")
    check(cfg)
    assert isinstance(build(cfg, "model"), torch.nn.LazyLinear)


def test_help_names_every_group_and_choice_in_a_screen() -> None:
    template = yaml.safe_load((CONF_DIR / "hydra/help/study.yaml").read_text("utf-8"))["template"]
    for group in sorted(path.name for path in CONF_DIR.iterdir() if path.is_dir() and path.name != "hydra"):
        assert re.search(rf"^  {group}\b", template, flags=re.MULTILINE), group
        for choice in choices(group):
            assert re.search(rf"\b{choice}\b", template), f"{group}={choice}"
    assert len(template.splitlines()) + 4 <= 35
    assert max(map(len, template.splitlines())) <= 100


# --- names --------------------------------------------------------------------------------------------------------------


def name_of(*overrides: str) -> str:
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return run_name(compose("config", overrides=list(overrides), return_hydra_config=True))


def test_runs_are_named_by_what_tells_them_apart() -> None:
    assert name_of() == "net3/lr=0.015/seed=0"
    assert name_of("model=net2", "optimizer.lr=0.1", "seed=7") == "net2/lr=0.1/seed=7"
    assert name_of("model.dropout=0", "trainer.max_epochs=3") == "net3/lr=0.015/seed=0/model.dropout=0,trainer.max_epochs=3"
    assert name_of("experiment=exp1") == "net1/lr=0.01/seed=0/experiment=exp1"
    assert name_of("data.root=/a/b/c") == "net3/lr=0.015/seed=0"


def test_names_stay_inside_one_folder_and_short() -> None:
    long = name_of("model.channels=[" + ",".join(["100"] * 200) + "]")
    assert len(Path(long).name) < 140
    hostile = name_of("+model.note='../../x y<b>'")
    assert ".." not in Path(hostile).parts
    assert len(Path(hostile).parts) == 4
    assert name_of("+model.note='a b'") != name_of("+model.note='a_b'")

"""Every choice of every group composes, passes its rules and builds; presets are what they say."""

import re

import lightning as L
import pytest
import torch
import yaml

from mnist_lightning.__main__ import COMMANDS
from mnist_lightning.config.build import build, build_named
from mnist_lightning.config.check import check
from mnist_lightning.config.compose import CONF_DIR, choices, compose_config, groups
from mnist_lightning.config.errors import ConfigError
from mnist_lightning.data.augmentation import of_batches
from mnist_lightning.models import Net3

GROUPS = ("model", "optimizer", "scheduler", "augmentation", "data")


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
            assert of_batches(build(cfg, "augmentation"))(torch.rand(4, 1, 28, 28) * 255).shape == (4, 1, 28, 28)
        case group:
            assert isinstance(build(cfg, group), torch.nn.Module)


@pytest.mark.parametrize("name", choices("callbacks"))
def test_every_choice_of_callbacks_passes_its_rules_and_builds(name: str) -> None:
    cfg = compose_config(f"callbacks={name}")
    check(cfg)
    built = build_named(cfg, "callbacks").values()
    assert [isinstance(callback, L.Callback) for callback in built] == [True] * (name != "none")


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
    assert (cfg.gate.max_params, cfg.gate.min_accuracy, cfg.gate.within_epochs) == (8000, 0.994, 15)
    assert (cfg.gate.count, cfg.gate.dataset, cfg.gate.rule, cfg.gate.on_miss) == ("trainable", "MNIST", "last", "fail")


def test_a_hold_out_changes_the_default_rule() -> None:
    assert compose_config("data.val_images=5000").gate.rule == "selected"
    assert compose_config("data.val_images=5000", "gate.rule=last").gate.rule == "last"


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
    for group in groups():
        assert re.search(rf"^  {group}\b", template, flags=re.MULTILINE), group
        for choice in choices(group):
            assert re.search(rf"\b{choice}\b", template), f"{group}={choice}"
    for word in COMMANDS:
        assert re.search(rf"\b{word}\b", template), word
    assert len(template.splitlines()) + 4 <= 48
    assert max(map(len, template.splitlines())) <= 100

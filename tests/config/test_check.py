"""The rules of the configuration: what breaks one is refused in a line with the key and the value as typed."""

import re

import pytest

from mnist_lightning.config.check import check
from mnist_lightning.config.compose import compose_config
from mnist_lightning.config.errors import ConfigError

BAD = {
    "trainer.max_epochs=0": "greater than or equal to 1",
    "trainer.max_epochs=1.5": "a valid integer",
    "trainer.devices=x": "a valid integer",
    "trainer.devices=0": "greater than or equal to 1",
    "trainer.devices=[]": "a valid integer",
    "optimizer.lr=-1": "greater than 0",
    "optimizer.lr=0": "greater than 0",
    "optimizer.lr=nan": "a finite number",
    "optimizer.lr=inf": "a finite number",
    "optimizer.lr=fast": "a valid number",
    "optimizer.lr=null": "a valid number",
    "optimizer.momentum=1": "less than 1",
    "optimizer._partial_=false": "True",
    "data.batch_size=1": "greater than or equal to 2",
    "data.batch_size=true": "a valid integer",
    "data.val_images=60000": "less than or equal to 50000",
    "gate.min_accuracy=99.4": "less than or equal to 1",
    "gate.min_accuracy=0": "greater than 0",
    "gate.rule=bset": "'best', 'last', 'mean_last_3' or 'selected'",
    "gate.max_params=0": "greater than or equal to 1",
    "gate.max_multiply_adds=1.5": "a valid integer",
    "gate.max_activation_bytes=0": "greater than or equal to 1",
    "gate.max_file_bytes=20kB": "a valid integer",
    "gate.on_miss=ignore": "'fail' or 'warn'",
    "augmentation.degrees=abc": "a valid number",
    "augmentation.interpolation=cubic": "'bilinear' or 'nearest'",
    "augmentation.scale=[1]": "at least 2 items",
    "augmentation.scale=[1.1,0.9]": "the lowest factor comes first; try [0.9,1.1]",
    "model.dropout=1": "less than 1",
    "model.channels=8": "a valid list",
    "scheduler.warmup=1": "less than 1",
    "scheduler._target_=linear": "must be a class's import path, such as my_net.MyNet",
    "seed=-1": "greater than or equal to 0",
    "seed=null": "a valid integer",
    "ckpt_path=runs/last.ckpt": "'last'",
    "+gate.patience=3": "there is no such key",
    "gate.rule=selected": "needs a hold-out to select on; try data.val_images=5000",
    "trainer.max_epochs=16": "gate.rule=last judges the end of the run, beyond gate.within_epochs=15",
    "trainer.devices=2": "several devices need trainer=ddp",
}


@pytest.mark.parametrize("override", BAD)
def test_a_bad_value_is_refused_in_one_line(override: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check(compose_config(override))
    [line] = str(caught.value).splitlines()[:1]
    assert line.startswith(f"{override.removeprefix('+')}: ")
    assert BAD[override] in line
    assert len(line) <= 200


@pytest.mark.parametrize("key", ["gate", "optimizer.lr"])
def test_a_missing_key_is_named(key: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(key)}: the key is missing; give {re.escape(key)}=VALUE$"):
        check(compose_config(f"~{key}"))


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        check(compose_config("optimizer.lr=-1", "seed=-1", "gate.max_params=0"))
    assert [line.split("=")[0] for line in str(caught.value).splitlines()] == ["optimizer.lr", "gate.max_params", "seed"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.val_images=5000", "gate.rule=best"], "gate.rule=best: needs the test accuracy of every epoch"),
        (["trainer.max_epochs=2", "gate.rule=mean_last_3"], "gate.rule=mean_last_3 needs at least 3 epochs"),
        (["data=synthetic", "data.val_images=9991"], "holds out every image of a class of data.train_images=10000"),
        (
            ["trainer=ddp", "trainer.devices=3"],
            "data.batch_size=64: 3 processes share it evenly, two images each at least; try ",
        ),
        (["trainer=ddp", "data=synthetic", "trainer.devices=16", "data.test_images=30"], "data.test_images=30: 16 processes"),
        (["compile=true", "cuda_graph=true"], "compile=true: cuda_graph=true records the step that is not compiled"),
        (["trainer=ddp", "cuda_graph=true"], "cuda_graph=true: records the step of one process"),
        (["cuda_graph=true", "trainer.precision=bf16-mixed"], "trainer.precision=bf16-mixed: cuda_graph=true records single"),
        (["optimizer.momentum=0"], "optimizer.nesterov=true: needs a momentum"),
        (["ckpt_path=last", "resume=false"], "resume=false: contradicts ckpt_path=last"),
    ],
)
def test_values_that_do_not_go_together_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        check(compose_config(*overrides))


def test_the_bounds_themselves_are_allowed() -> None:
    check(compose_config("gate.min_accuracy=1", "seed=4294967295", "data.val_images=50000", "model.dropout=0"))
    check(compose_config("trainer.max_epochs=20", "gate.rule=best"))
    check(compose_config("trainer.max_epochs=20", "gate.within_epochs=20"))


def test_the_rules_of_a_group_bind_what_comes_with_this_project_alone() -> None:
    check(compose_config("model._target_=somewhere.Net", "model.dropout=7", "+model.activation=gelu"))
    check(compose_config("optimizer._target_=torch.optim.Adagrad", "optimizer.momentum=3"))

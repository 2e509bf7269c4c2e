"""What a class refuses is told in a line before data is read: the key, what was built, what it said, the way out."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mnist_lightning.config.build import build
from mnist_lightning.config.errors import ConfigError
from mnist_lightning.data.augmentation import of_batches
from mnist_lightning.training.rehearsal import rehearse
from mnist_lightning.training.schedules import Schedule
from tests.conftest import Finished, one_error, own_recipe

LR = "torch.optim.lr_scheduler"
TV = "torchvision.transforms"


def rehearse_all(*overrides: str) -> None:
    cfg = own_recipe(*overrides)
    rehearse(cfg, build(cfg, "optimizer"), Schedule.of(cfg), of_batches(build(cfg, "augmentation")))


WORKS = [
    *(f"optimizer._target_=torch.optim.{name} optimizer.lr=0.01" for name in ("Adam", "AdamW", "RMSprop", "Adagrad", "NAdam")),
    *(f"optimizer._target_=torch.optim.{name}" for name in ("RAdam", "Rprop", "ASGD", "Adadelta", "Adamax", "Adafactor")),
    f"scheduler._target_={LR}.ConstantLR",
    f"scheduler._target_={LR}.LinearLR +scheduler.total_iters=3",
    f"scheduler._target_={LR}.ExponentialLR +scheduler.gamma=0.9",
    f"scheduler._target_={LR}.PolynomialLR +scheduler.power=2",
    f"augmentation._target_={TV}.v2.RandomAffine +augmentation.degrees=10 +augmentation.scale=[0.9,1.1]",
    f"augmentation._target_={TV}.v2.RandomErasing +augmentation.p=1 +augmentation.value=random",
    f"augmentation._target_={TV}.v2.ElasticTransform",
    f"augmentation._target_={TV}.v2.RandomPerspective",
    f"augmentation._target_={TV}.RandomPerspective",
]
OWN = {"optimizer": "torch.optim", "scheduler": LR, "augmentation": f"{TV}.v2"}
REFUSED = [  # group, class and arguments, and what is said of them; {} is the import path
    ("scheduler", "StepLR", "scheduler.step_size: StepLR needs it; give +scheduler.step_size=VALUE"),
    ("scheduler", "StepLR steps=3", "scheduler.steps=3: StepLR takes no steps; it takes optimizer, step_size"),
    ("scheduler", "MultiStepLR milestones=3", "scheduler: {} refuses it: 'int' object is not"),
    ("scheduler", "OneCycleLR max_lr=1 total_steps=9", "scheduler.total_steps=9: the run counts its own steps; leave "),
    ("scheduler", "OneCycleLR max_lr=1 epochs=9", "scheduler.epochs=9: the run counts its own steps; leave the key out"),
    ("scheduler", "ReduceLROnPlateau interval=step", "scheduler.interval=step: this scheduler looks at the figures of an "),
    ("scheduler", "ReduceLROnPlateau mode=up", "scheduler: {} refuses it: mode up is unknown"),
    ("scheduler", "ConstantLR monitor=test/loss", "scheduler.monitor=test/loss: ConstantLR looks at nothing; leave the key "),
    ("scheduler", "LambdaLR lr_lambda=x", "scheduler: {} refuses it: 'str' object is not callable"),
    ("scheduler", "CyclicLR base_lr=9 max_lr=[1,2,3]", "scheduler: {} refuses it: "),
    ("optimizer", "LBFGS", "optimizer: {} refuses it: LBFGS doesn't support per-parameter"),
    ("optimizer", "SparseAdam", "optimizer: {} refuses it: SparseAdam does not support dense"),
    ("optimizer", "Adam lr=-1", "optimizer: {} refuses it: Invalid learning rate: -1"),
    ("optimizer", "Adam lr=fast", "optimizer: {} refuses it: "),
    ("optimizer", "Adam momentum=0.9", "optimizer.momentum=0.9: Adam takes no momentum; it takes params, lr, betas"),
    ("augmentation", "RandomRotation", "augmentation.degrees: RandomRotation needs it; give +augmentation.degrees=VALUE"),
    ("augmentation", "RandomRotation degrees=-9", "augmentation: {} refuses it: If degrees is a single number"),
    ("augmentation", "RandomCrop size=24", "augmentation: {} refuses it: it makes torch.float32 (2, 1, 24, 24) of "),
    ("augmentation", "MixUp num_classes=10 alpha=-1", "augmentation: {} refuses it: "),
    (
        "augmentation",
        'Compose transforms=[{"_target_":torchvision.transforms.ToTensor}]',
        "augmentation: every image is a tensor ",
    ),
    ("augmentation", "Normalize mean=[0.1] std=[0.3]", "augmentation: every image is normalised by data.mean and data.std; "),
]


@pytest.mark.parametrize("overrides", WORKS)
def test_a_recipe_of_torchs_classes_is_rehearsed(overrides: str) -> None:
    rehearse_all(*overrides.split())


@pytest.mark.parametrize(("group", "words", "message"), REFUSED)
def test_what_a_class_refuses_is_told_in_a_line(group: str, words: str, message: str) -> None:
    name, *arguments = words.split()
    path = f"{OWN[group]}.{name}"
    with pytest.raises(ConfigError) as caught:
        rehearse_all(f"{group}._target_={path}", *(f"{group}.{argument}" for argument in arguments))
    assert str(caught.value).startswith(message.format(path))
    assert len(str(caught.value)) <= 200
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("path", ["os.system", "functools.partial", "unittest.mock.Mock", "builtins.type", "torch.optim.Adam"])
def test_an_augmentation_is_a_class_that_can_be_called(path: str) -> None:
    with pytest.raises(ConfigError, match=rf"^augmentation\._target_={path}: is no "):
        rehearse_all(f"augmentation._target_={path}")


def test_a_rehearsal_draws_no_number_of_the_run() -> None:
    torch.manual_seed(0)
    rehearse_all("augmentation=elastic")
    after = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(after, torch.rand(1))


class Smaller:
    """An augmentation of a user's own that forgets what it was given."""

    def __call__(self, images: Tensor) -> Tensor:
        return images[:, 0].to(torch.uint8)


def test_it_is_told_before_data_is_looked_for(cli: Callable[..., Finished]) -> None:
    line = one_error(
        cli("data.root=nowhere", "data.places=[]", "data.mirrors=[]", f"augmentation._target_={__name__}.Smaller"), 2
    )
    assert line.startswith(
        f"augmentation: {__name__}.Smaller refuses it: it makes torch.uint8 (2, 28, 28) of torch.float32 (2, 1, "
    )

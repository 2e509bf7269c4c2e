"""Images of the user's own: a class that loads them is enough; what it loads is looked at before it is trained on."""

from typing import Any

import pytest
import torch

from mnist_lightning.config.build import build
from mnist_lightning.config.check import check
from mnist_lightning.config.compose import compose_config
from mnist_lightning.config.errors import ConfigError
from mnist_lightning.data import DigitsDataModule

IMAGES, LABELS = torch.zeros(20, 28, 28, dtype=torch.uint8), torch.arange(20) % 10
GOOD = {"train": (IMAGES, LABELS), "test": (IMAGES, LABELS)}


class Mine(DigitsDataModule):
    name = "mine"
    loaded: Any = GOOD

    def load(self) -> Any:
        return self.loaded


class Nameless(Mine):
    name = ""


class Loadless(DigitsDataModule):
    name = "mine"


def set_up(kind: str = "Mine") -> DigitsDataModule:
    cfg = compose_config("data=synthetic", "~data.train_images", "~data.test_images", f"data._target_={__name__}.{kind}")
    data: DigitsDataModule = build(cfg, "data", seed=0, augmentation=torch.nn.Identity())
    data.setup("fit")
    return data


def test_what_is_promised_is_taken() -> None:
    assert (set_up().num_images("train"), set_up().num_images("test")) == (20, 20)


BAD = {  # what is loaded, and what is said of it
    "float images": (
        GOOD | {"train": (IMAGES / 255, LABELS)},
        "train images are torch.float32 (20, 28, 28); wanted are torch.uint8",
    ),
    "channels": (
        GOOD | {"test": (IMAGES[:, None], LABELS)},
        "test images are torch.uint8 (20, 1, 28, 28); wanted are torch.uint8",
    ),
    "arrays": (GOOD | {"train": (IMAGES.numpy(), LABELS)}, "train images are ndarray; wanted are torch.uint8 (20, 28, 28)"),
    "short labels": (
        GOOD | {"train": (IMAGES, LABELS.int())},
        "train labels are torch.int32 (20,); wanted are torch.int64 (20,)",
    ),
    "a label less": (
        GOOD | {"train": (IMAGES, LABELS[1:])},
        "train labels are torch.int64 (19,); wanted are torch.int64 (20,)",
    ),
    "labels from 1": (GOOD | {"train": (IMAGES, LABELS + 1)}, "train labels go from 1 to 10; wanted are 0 to 9"),
    "no images": (GOOD | {"test": (IMAGES[:0], LABELS[:0])}, "there are no test images"),
    "no test": ({"train": (IMAGES, LABELS)}, 'must return {"train": (images, labels), "test": (images, labels)}'),
    "a tuple": ((IMAGES, LABELS), 'must return {"train": (images, labels), "test": (images, labels)}'),
}


@pytest.mark.parametrize("fault", BAD)
def test_what_would_go_wrong_is_refused(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, said = BAD[fault]
    monkeypatch.setattr(Mine, "loaded", loaded)
    with pytest.raises(ConfigError) as caught:
        set_up()
    assert str(caught.value).startswith("data: Mine.load")
    assert said in str(caught.value)


@pytest.mark.parametrize(("kind", "said"), [("Nameless", "has no name"), ("Loadless", "has no method load")])
def test_a_class_that_lacks_something_is_refused(kind: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"^data: {kind} {said}"):
        set_up(kind)


def test_a_yaml_without_the_keys_of_batches_is_told_what_it_builds_on() -> None:
    keys = ("batch_size", "eval_batch_size", "val_images")
    with pytest.raises(ConfigError) as caught:
        check(compose_config(*(f"~data.{key}" for key in keys)))
    assert str(caught.value).splitlines() == [
        f"data.{key}: the key is missing; give data.{key}=VALUE, or begin its YAML with defaults: [base/loading@_here_]"
        for key in keys
    ]

"""Checks a composed configuration against the rules, and says of each broken one what to give instead."""

import re
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from mnist_lightning.config.compose import choices
from mnist_lightning.config.errors import ConfigError, one_line, typed
from mnist_lightning.config.rules import Config


def check(cfg: DictConfig) -> None:
    """Checks a composed configuration, without its `hydra` node, against every rule at once.

    Raises:
        ConfigError: With one line per broken rule.
    """
    try:
        values = OmegaConf.to_container(cfg, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {one_line(error.msg or error)}") from None
    if references := list(_references(values, "")):
        raise ConfigError("\n".join(references))
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(dict.fromkeys(_sentence(detail) for detail in error.errors()))) from None
    if conflicts := list(_conflicts(config)):
        raise ConfigError("\n".join(conflicts))


def _references(node: Any, key: str) -> Iterator[str]:
    """Text in which config.yaml, once written, would be found to refer to another key."""
    if isinstance(node, (dict, list)):
        for name, child in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _references(name, f"{key}.{name}" if key else str(name))
            yield from _references(child, f"{key}.{name}" if key else str(name))
    elif isinstance(node, str) and "${" in node:
        yield f"{key}: {one_line(node)} may not hold ${{ as text; give it without"


def _sentence(detail: ErrorDetails) -> str:
    """One error of pydantic's as the line a user reads."""
    if detail["type"] in ("extra_forbidden", "invalid_key"):
        return f"{'.'.join(map(str, detail['loc']))}: there is no such key"
    # Members of a union are told apart by type names, which are no keys.
    union = ("int", "str", "bool", "constrained-int")
    loc = [part for part in detail["loc"] if part not in union and not re.search(r"[\[(]", str(part))]
    key = ".".join(str(part) for part in loc)
    if detail["type"] == "missing":
        return f"{key}: the key is missing; give {key}=VALUE"
    field = _field(loc)
    if not field.examples:  # a group
        return f"{key}={typed(detail['input'])}: {key} must be a group of keys; choose one of {', '.join(choices(key))}"
    return f"{key}={typed(detail['input'])}: {key} must be {field.description}; try {_override(loc, field.examples)}"


def _field(loc: list[int | str]) -> Any:
    """The rule of a key; an index leads to the rule of the list it is in."""
    model: Any = Config
    field: Any = None
    for part in loc:
        if isinstance(part, int):
            break
        fields = model.model_fields
        field = fields.get(part) or next(f for f in fields.values() if f.alias == part)
        model = field.annotation
    return field


def _override(loc: list[int | str], examples: list[Any]) -> str:
    key = ".".join(str(part) for part in loc if isinstance(part, str))
    return f"{key}={typed(examples[0])}"


def _conflicts(config: Config) -> Iterator[str]:
    """Values that are fine alone and not together."""
    gate, data, epochs = config.gate, config.data, config.trainer.max_epochs
    if data.val_images and gate.rule in ("best", "mean_last_3"):
        yield (
            f"gate.rule={gate.rule}: the rule needs the test accuracy of every epoch, and with data.val_images="
            f"{data.val_images} the test set is measured once; use gate.rule=selected, gate.rule=last or data.val_images=0"
        )
    if not data.val_images and gate.rule == "selected":
        yield "gate.rule=selected: the rule needs a hold-out to select on, and data.val_images is 0; try data.val_images=5000"
    if gate.rule == "mean_last_3" and epochs < 3:
        yield f"trainer.max_epochs={epochs}: gate.rule=mean_last_3 needs at least 3 epochs; use gate.rule=last"
    if gate.rule != "best" and epochs > gate.within_epochs:
        yield (
            f"trainer.max_epochs={epochs}: with gate.rule={gate.rule} the accuracy is that of the end of the run, which lies "
            f"beyond gate.within_epochs={gate.within_epochs}; raise gate.within_epochs or train fewer epochs"
        )
    smallest_class = data.train_images // 10
    if data.val_images and -(-data.val_images // 10) >= smallest_class:
        yield (
            f"data.val_images={data.val_images}: holds out every image of a class of data.train_images={data.train_images}; "
            f"use fewer than {10 * (smallest_class - 1) + 1}"
        )
    scale = config.augmentation.scale
    if scale[0] > scale[1]:
        yield f"augmentation.scale={typed(scale)}: the lowest factor comes first; try [{scale[1]},{scale[0]}]"
    trainer = config.trainer
    if trainer.num_processes > 1:
        if "ddp" not in trainer.strategy:
            devices = typed(trainer.devices)
            yield f"trainer.devices={devices}: several devices for one run need trainer=ddp; or take trainer.devices=1"
        if data.batch_size % trainer.num_processes:
            smaller = max(2, data.batch_size // trainer.num_processes) * trainer.num_processes
            yield (
                f"data.batch_size={data.batch_size}: {trainer.num_processes} processes cannot share it evenly; "
                f"try data.batch_size={smaller}"
            )
        elif data.batch_size < 2 * trainer.num_processes:
            yield (
                f"data.batch_size={data.batch_size}: gives each of {trainer.num_processes} processes one image, and a batch "
                f"norm compares images; try data.batch_size={2 * trainer.num_processes}"
            )
        for key, num_images in (
            ("data.train_images", data.train_images - data.val_images),
            ("data.val_images", data.val_images),
            ("data.test_images", data.test_images),
        ):
            if 0 < num_images < 2 * trainer.num_processes:
                yield (
                    f"{key}={getattr(data, key[5:])}: {trainer.num_processes} processes need two images each and have "
                    f"{num_images}; give more images or fewer trainer.devices"
                )
        if config.cuda_graph:
            yield "cuda_graph=true: records the step of one process; use cuda_graph=false or trainer=default"
    if config.cuda_graph and config.trainer.precision not in ("32-true", "32", 32):
        yield (
            f"trainer.precision={config.trainer.precision}: cuda_graph=true records single precision only; "
            "use trainer.precision=32-true or cuda_graph=false"
        )
    if config.ckpt_path == "last" and not config.resume:
        yield "resume=false: contradicts ckpt_path=last, which is resume=true in other words; leave one of them out"
    if config.optimizer.nesterov and config.optimizer.momentum == 0:
        yield "optimizer.nesterov=true: needs a momentum; give optimizer.momentum=0.9 or optimizer.nesterov=false"

"""The rules of the trainer's arguments: what a run of this project can do with each."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from mnist_lightning.config.errors import typed
from mnist_lightning.config.fields import Group, Whole

# Arguments that take objects, each by its `_target_`; a run adds its own to them.
OBJECTS = ("callbacks", "logger", "plugins")
# Arguments that do not go with a run, the values that change nothing, and what to do instead.
REFUSED = {
    "callbacks": ((None,), "takes a list of {_target_: CLASS, ...}; or choose callbacks=..."),
    "logger": ((), "loggers are a group: logger=none, logger=[tensorboard,csv], or +logger.mine._target_=CLASS"),
    "plugins": ((None,), "takes a list of {_target_: CLASS, ...}"),
    "default_root_dir": ((None,), "a run's files lie in its own directory; name that by hydra.run.dir=DIR"),
    "num_sanity_val_steps": ((0, None), "an evaluation before training would count as an epoch's; leave it out"),
    "enable_checkpointing": ((True, None), "a run goes on and is judged by its checkpoints; leave it out"),
    "barebones": ((False,), "leaves out what a verdict needs; take trainer.fast_dev_run=true for a quick look"),
    "overfit_batches": ((0,), "replaces the order of the images; take trainer.limit_train_batches"),
    "limit_predict_batches": ((None,), "a run predicts nothing; leave it out"),
    "model_registry": ((None,), "uploads to a service that this project does not use; leave it out"),
}


def is_ddp(strategy: str) -> bool:
    """Whether a run by this strategy starts processes of its own, one for each device."""
    return "ddp" in strategy


class Trainer(Group):
    """Arguments of `lightning.Trainer`: docs/configuration.md lists every one."""

    max_epochs: Whole
    accelerator: str
    devices: Whole | Annotated[list[int], Field(min_length=1)]
    strategy: str
    precision: str | int | None
    num_nodes: Whole = 1
    deterministic: bool | Literal["warn"]

    @property
    def num_processes(self) -> int:
        """Processes that share every batch."""
        return self.num_nodes * (self.devices if isinstance(self.devices, int) else len(self.devices))

    @model_validator(mode="after")
    def several_devices_need_ddp(self) -> Self:
        if self.num_processes > 1 and not is_ddp(self.strategy):
            raise ValueError(
                f"trainer.devices={typed(self.devices)}: several devices need trainer=ddp; or take trainer.devices=1"
            )
        return self

    @field_validator("strategy")
    @classmethod
    def results_stay_in_this_process(cls, strategy: str) -> str:
        if any(word in strategy for word in ("fork", "spawn", "notebook")):
            raise ValueError(
                f"trainer.strategy={strategy}: keeps its results in processes of its own; give trainer.strategy=ddp"
            )
        return strategy

    @model_validator(mode="after")
    def nothing_is_ignored(self) -> Self:
        for name, value in (self.model_extra or {}).items():
            harmless, why = REFUSED.get(name, ((value,), ""))
            is_object = name in OBJECTS and all(
                isinstance(one, dict) for one in (value if isinstance(value, list) else [value])
            )
            if not is_object and value not in harmless:
                raise ValueError(f"trainer.{name}={typed(value)}: {why}")
        return self

"""The rules of every configuration value that the project itself reads: type, bounds, and an example to try instead.

Each description finishes the sentence "KEY must be …". The rules are pydantic's; `config.check` applies them.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

# Held out class-balanced, so bounded by the rarest class: 5,421 of the 60,000 training images show a 5.
MAX_VAL_IMAGES = 50_000


def _rule(text: str, example: Any, **bounds: Any) -> Any:
    return Field(description=text, examples=[example], **bounds)


def _number(text: str, example: float, **bounds: Any) -> Any:
    return _rule(text, example, allow_inf_nan=False, **bounds)


def _class(example: str) -> Any:
    return Field(
        alias="_target_", pattern=r"^[^\W\d]\w*(\.[^\W\d]\w*)+$", description="a class's import path", examples=[example]
    )


Degrees = Annotated[float, _number("a number of degrees from 0 to 180", 10, ge=0, le=180)]
Fill = Annotated[float, _number("a grey value from 0 to 255", 0, ge=0, le=255)]
Interpolation = Annotated[Literal["bilinear", "nearest"], _rule("bilinear or nearest", "bilinear")]
Factor = Annotated[float, _number("a number from 0 to 1", 0.4, ge=0, le=1)]
Warmup = Annotated[float, _number("a fraction of the run, at least 0 and below 1", 0.05, ge=0, lt=1)]


class _Open(BaseModel):
    """A group whose targets may take further arguments, as a network of the user's own does."""

    # strict: "1" is no number and true is no integer, so that a value means what it looks like.
    model_config = ConfigDict(extra="allow", strict=True)
    partial: Annotated[Literal[False], Field(alias="_partial_", description="false", examples=[False])] = False


class _Partial(_Open):
    """A group whose target gets the rest of its arguments from the run: parameters, an optimizer."""

    partial: Annotated[Literal[True], Field(alias="_partial_", description="true", examples=[True])]  # type: ignore[assignment]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Model(_Open):
    target: Annotated[str, _class("mnist_lightning.models.Net3")]
    dropout: Annotated[float, _number("a probability, at least 0 and below 1", 0.025, ge=0, lt=1)] = 0
    channels: Annotated[
        list[Annotated[int, _rule("an integer of at least 1", 8, ge=1)]],
        _rule("a list of channel widths", [8, 16, 8, 12, 16, 20, 16], min_length=1),
    ] = [1]
    width: Annotated[int, _rule("an integer of at least 1", 24, ge=1)] = 1
    activation: Annotated[Literal["relu", "silu"], _rule("relu or silu", "silu")] = "relu"


class _Optimizer(_Partial):
    target: Annotated[str, _class("torch.optim.SGD")]
    # Products of these are taken in single precision, which ends at 3e38.
    lr: Annotated[float, _number("a number above 0, at most 1e30", 0.015, gt=0, le=1e30)]
    momentum: Annotated[float, _number("a number of at least 0 and below 1", 0.9, ge=0, lt=1)] = 0
    nesterov: Annotated[bool, _rule("true or false", True)] = False
    weight_decay: Annotated[float, _number("a number from 0 to 1e30", 0.0001, ge=0, le=1e30)] = 0
    others: Annotated[float, _number("a number above 0, at most 1e6", 5, gt=0, le=1e6)] = 1
    betas: Annotated[
        list[Annotated[float, _number("a number of at least 0 and below 1", 0.9, ge=0, lt=1)]],
        _rule("a list of two numbers", [0.9, 0.999], min_length=2, max_length=2),
    ] = [0.9, 0.999]


class _Scheduler(_Partial):
    target: Annotated[str, _class("mnist_lightning.training.schedules.linear")]
    warmup: Warmup = 0
    div_factor: Annotated[float, _number("a finite number of at least 1", 25, ge=1)] = 1
    final_div_factor: Annotated[float, _number("a finite number of at least 1", 10000, ge=1)] = 1


class _Augmentation(_Open):
    target: Annotated[str, _class("mnist_lightning.data.augmentation.Affine")]
    degrees: Degrees = 0
    translate: Annotated[float, _number("a fraction of the side, from 0 to 1", 0.07, ge=0, le=1)] = 0
    scale: Annotated[
        list[Annotated[float, _number("a finite number above 0", 0.9, gt=0)]],
        _rule("a list of the lowest and the highest factor", [0.9, 1.1], min_length=2, max_length=2),
    ] = [1, 1]
    shear: Annotated[float, _number("a number of degrees, at least 0 and below 90", 8, ge=0, lt=90)] = 0
    fill: Fill = 0
    interpolation: Interpolation = "bilinear"
    amplitude: Annotated[float, _number("a number of pixels, at least 0", 0.5, ge=0)] = 0
    knots: Annotated[int, _rule("an integer of at least 2", 6, ge=2)] = 2
    anneal_from: Annotated[float, _number("a share of the run, from 0 to 1", 0.5, ge=0, le=1)] = 1
    brightness: Factor = 0
    contrast: Factor = 0


class _Data(_Open):
    target: Annotated[str, _class("mnist_lightning.data.datamodule.MNISTDataModule")]
    batch_size: Annotated[int, _rule("an integer of at least 2, for batch norms", 64, ge=2)]
    eval_batch_size: Annotated[int, _rule("an integer of at least 1", 1000, ge=1)]
    val_images: Annotated[
        int,
        _rule(
            f"an integer from 0 (no hold-out) to {MAX_VAL_IMAGES} (every class keeps images to train on)",
            5000,
            ge=0,
            le=MAX_VAL_IMAGES,
        ),
    ]
    root: Annotated[str, _rule("a folder", "data", min_length=1)] = "data"
    places: Annotated[list[str], _rule("a list of folders", ["../shared/mnist"])] = []
    mirrors: Annotated[list[str], _rule("a list of addresses", [])] = []
    train_images: Annotated[int, _rule("an integer from 10 to 100000", 10000, ge=10, le=100_000)] = 60_000
    test_images: Annotated[int, _rule("an integer from 10 to 100000", 2000, ge=10, le=100_000)] = 10_000


class _Trainer(_Open):
    target: Annotated[str, _class("lightning.Trainer")]
    max_epochs: Annotated[int, _rule("an integer of at least 1", 15, ge=1)]
    accelerator: Annotated[str, _rule("the name of an accelerator of lightning.Trainer", "auto")]
    devices: Annotated[
        Annotated[int, Field(ge=1)] | Annotated[list[int], Field(min_length=1)],
        _rule("a number of at least 1, or a list of indices of devices", 1),
    ]
    strategy: Annotated[str, _rule("the name of a strategy of lightning.Trainer", "auto")]
    precision: Annotated[str | int, _rule("a precision of lightning.Trainer", "32-true")]
    num_nodes: Annotated[int, _rule("an integer of at least 1", 2, ge=1)] = 1
    deterministic: Annotated[bool | Literal["warn"], _rule("true, false or warn", True)]

    @property
    def num_processes(self) -> int:
        """Processes that share every batch."""
        return self.num_nodes * (self.devices if isinstance(self.devices, int) else len(self.devices))


class _Gate(_Closed):
    max_params: Annotated[int, _rule("an integer of at least 1", 8000, ge=1)]
    min_accuracy: Annotated[float, _number("a fraction above 0 and at most 1 (99.4 % is 0.994)", 0.994, gt=0, le=1)]
    within_epochs: Annotated[int, _rule("an integer of at least 1", 15, ge=1)]
    rule: Annotated[
        Literal["best", "last", "mean_last_3", "selected"], _rule("one of best, last, mean_last_3, selected", "last")
    ]
    on_miss: Annotated[Literal["fail", "warn"], _rule("fail or warn", "fail")]


class Config(_Closed):
    """Every key of a run's configuration that the project itself reads, with its rule."""

    model: _Model
    optimizer: _Optimizer
    scheduler: _Scheduler
    augmentation: _Augmentation
    data: _Data
    trainer: _Trainer
    gate: _Gate
    seed: Annotated[int, _rule("an integer from 0 to 4294967295", 0, ge=0, le=2**32 - 1)]
    label_smoothing: Annotated[float, _number("a fraction, at least 0 and below 1", 0.1, ge=0, lt=1)]
    cuda_graph: Annotated[bool, _rule("true or false", False)]
    resume: Annotated[bool, _rule("true or false", True)]
    ckpt_path: Annotated[
        Literal["last"] | None,
        _rule("last, to go on as by resume=true with the same command's newest run or that in hydra.run.dir, or null", "last"),
    ] = None
    pictures: Annotated[Literal["last", "every", "none"], _rule("last, every or none", "last")] = "last"

"""The rules of every configuration value that the project itself reads: type, bounds, and what goes together.

The rules are pydantic's, and so are the sentences; a rule about several keys is a validator of the group that they share. The
rules of a group bind what comes with this project: a class of the user's own takes what it takes.
"""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator
from typing_extensions import Self

from mnist_lightning.config.errors import typed
from mnist_lightning.config.fields import Closed, Degrees, Group, Probability, Share, Whole
from mnist_lightning.config.plan import steps_of
from mnist_lightning.config.trainer import Trainer

# Held out class-balanced, so bounded by the rarest class: 5,421 of the 60,000 training images show a 5.
MAX_VAL_IMAGES = 50_000
# Products of these are taken in single precision, which ends at 3e38.
LARGEST = 1e30
MOVE_MOMENTUM = (".onecycle", ".OneCycleLR", ".CyclicLR")


class _Model(Group):
    dropout: Probability = 0
    channels: Annotated[list[Whole], Field(min_length=1)] = [1]
    plan: list[str] = ["head"]
    activation: Literal["relu", "silu", "hardswish"] = "relu"
    norm_first: bool = True

    @model_validator(mode="after")
    def the_plan_fits(self) -> Self:
        steps_of(self.plan)
        return self


class _Optimizer(Group):
    partial: Annotated[Literal[True], Field(alias="_partial_")]
    lr: Annotated[float, Field(gt=0, le=LARGEST)]
    momentum: Probability = 0
    nesterov: bool = False
    weight_decay: Annotated[float, Field(ge=0, le=LARGEST)] = 0
    others: Annotated[float, Field(gt=0, le=1e6)] = 1
    betas: Annotated[list[Probability], Field(min_length=2, max_length=2)] = [0.9, 0.999]

    @model_validator(mode="after")
    def nesterov_needs_momentum(self) -> Self:
        if self.nesterov and self.momentum == 0:
            raise ValueError(
                "optimizer.nesterov=true: needs a momentum; give optimizer.momentum=0.9 or optimizer.nesterov=false"
            )
        return self


class _AnyScheduler(Group):
    # For the run itself, not for the class.
    interval: Literal["epoch", "step"] | None = None
    monitor: Annotated[str, Field(min_length=1)] | None = None


class _Scheduler(_AnyScheduler):
    partial: Annotated[Literal[True], Field(alias="_partial_")]
    warmup: Probability = 0
    div_factor: Annotated[float, Field(ge=1)] = 1
    final_div_factor: Annotated[float, Field(ge=1)] = 1


class _Augmentation(Group):
    degrees: Degrees = 0
    translate: Share = 0
    scale: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=2, max_length=2)] = [1, 1]
    shear: Annotated[float, Field(ge=0, lt=90)] = 0
    fill: Annotated[float, Field(ge=0, le=255)] = 0
    interpolation: Literal["bilinear", "nearest"] = "bilinear"
    amplitude: Annotated[float, Field(ge=0)] = 0
    knots: Annotated[int, Field(ge=2)] = 2
    anneal_from: Share = 1
    brightness: Share = 0
    contrast: Share = 0

    @model_validator(mode="after")
    def lowest_scale_comes_first(self) -> Self:
        low, high = self.scale
        if low > high:
            raise ValueError(f"augmentation.scale={typed(self.scale)}: the lowest factor comes first; try [{high},{low}]")
        return self


class _Data(Group):
    batch_size: Annotated[int, Field(ge=2)]  # a batch norm compares images
    eval_batch_size: Whole
    val_images: Annotated[int, Field(ge=0, le=MAX_VAL_IMAGES)]
    mean: Share = 0.1307
    std: Annotated[float, Field(gt=0, le=1)] = 0.3081
    root: Annotated[str, Field(min_length=1)] = "data"
    places: list[str] = []
    mirrors: list[str] = []
    train_images: Annotated[int, Field(ge=10, le=100_000)] = 60_000
    test_images: Annotated[int, Field(ge=10, le=100_000)] = 10_000

    @model_validator(mode="after")
    def every_class_keeps_images_to_train_on(self) -> Self:
        smallest_class = self.train_images // 10
        if self.val_images and -(-self.val_images // 10) >= smallest_class:
            raise ValueError(
                f"data.val_images={self.val_images}: holds out every image of a class of data.train_images="
                f"{self.train_images}; use fewer than {10 * (smallest_class - 1) + 1}"
            )
        return self


class _Gate(Closed):
    max_params: Whole
    max_multiply_adds: Whole | None = None
    max_activation_bytes: Whole | None = None
    max_file_bytes: Whole | None = None
    dataset: Annotated[str, Field(min_length=1)]
    min_accuracy: Annotated[float, Field(gt=0, le=1)]
    within_epochs: Whole
    count: Literal["trainable", "all"] = "trainable"
    rule: Literal["best", "last", "mean_last_3", "selected"]
    on_miss: Literal["fail", "warn"]


class _Sweep(Closed):
    jobs: Whole | None = None
    prune: bool = False


def _whose(group: Any) -> str:
    """Whether a group names something that comes with this project."""
    target = str(group.get("_target_")) if isinstance(group, dict) else ""
    return "ours" if target.startswith(("mnist_lightning.", "torch.optim.SGD", "torch.optim.AdamW")) or not target else "own"


def _bound_if_ours(rules: type[Group], own: type[Group] = Group) -> Any:
    return Annotated[Annotated[rules, Tag("ours")] | Annotated[own, Tag("own")], Discriminator(_whose)]


class Config(Closed):
    """Every key of a run's configuration that the project itself reads, with its rule."""

    model: _bound_if_ours(_Model)  # type: ignore[valid-type]
    optimizer: _bound_if_ours(_Optimizer)  # type: ignore[valid-type]
    scheduler: _bound_if_ours(_Scheduler, _AnyScheduler)  # type: ignore[valid-type]
    augmentation: _bound_if_ours(_Augmentation)  # type: ignore[valid-type]
    data: _Data
    trainer: Trainer
    callbacks: dict[str, Group] = {}
    logger: dict[str, Group] = {}
    gate: _Gate
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)]
    label_smoothing: Probability
    compile: bool
    cuda_graph: bool
    resume: bool
    ckpt_path: Literal["last"] | None = None
    pictures: Literal["last", "every", "none"] = "last"
    sweep: _Sweep = _Sweep()

    @model_validator(mode="after")
    def the_rule_can_be_judged(self) -> Self:
        rule, val_images, epochs = self.gate.rule, self.data.val_images, self.trainer.max_epochs
        if val_images and rule in ("best", "mean_last_3"):
            raise ValueError(
                f"gate.rule={rule}: needs the test accuracy of every epoch; with data.val_images={val_images} the test set is "
                "measured once: use gate.rule=selected, gate.rule=last or data.val_images=0"
            )
        if rule == "selected" and not val_images:
            raise ValueError("gate.rule=selected: needs a hold-out to select on; try data.val_images=5000")
        if rule == "mean_last_3" and epochs < 3:
            raise ValueError(f"trainer.max_epochs={epochs}: gate.rule=mean_last_3 needs at least 3 epochs; use gate.rule=last")
        if rule != "best" and epochs > self.gate.within_epochs:
            raise ValueError(
                f"trainer.max_epochs={epochs}: gate.rule={rule} judges the end of the run, beyond gate.within_epochs="
                f"{self.gate.within_epochs}; raise gate.within_epochs or train fewer epochs"
            )
        return self

    @model_validator(mode="after")
    def jobs_are_not_chosen_by_the_test_images(self) -> Self:
        if self.sweep.prune and not self.data.val_images:
            raise ValueError("sweep.prune=true: compares jobs on a hold-out, not on the test images; give data.val_images=5000")
        return self

    @model_validator(mode="after")
    def processes_share_every_batch(self) -> Self:
        num_processes, batch_size = self.trainer.num_processes, self.data.batch_size
        if num_processes == 1:
            return self
        if batch_size % num_processes or batch_size < 2 * num_processes:
            raise ValueError(
                f"data.batch_size={batch_size}: {num_processes} processes share it evenly, two images each at least; "
                f"try data.batch_size={max(2, batch_size // num_processes) * num_processes}"
            )
        for key in ("train_images", "val_images", "test_images"):
            if 0 < (num_images := getattr(self.data, key)) < 2 * num_processes:
                raise ValueError(f"data.{key}={num_images}: {num_processes} processes need two images each; give more images")
        return self

    @model_validator(mode="after")
    def a_step_is_compiled_or_recorded(self) -> Self:
        if self.compile and self.cuda_graph:
            raise ValueError("compile=true: cuda_graph=true records the step that is not compiled; use one of them")
        return self

    @model_validator(mode="after")
    def a_graph_records_one_process_in_single_precision(self) -> Self:
        if self.cuda_graph and self.trainer.num_processes > 1:
            raise ValueError("cuda_graph=true: records the step of one process; use cuda_graph=false or trainer=default")
        if self.cuda_graph and self.trainer.precision not in ("32-true", "32", 32):
            raise ValueError(
                f"trainer.precision={self.trainer.precision}: cuda_graph=true records single precision only; "
                "use trainer.precision=32-true or cuda_graph=false"
            )
        return self

    @model_validator(mode="after")
    def a_graph_records_what_happens_on_the_device(self) -> Self:
        moves_momentum = self.scheduler.target.endswith(MOVE_MOMENTUM)  # the momentum is a number, recorded once
        draws_elsewhere = not self.augmentation.target.startswith(("mnist_lightning.", "torch.nn.Identity"))
        averages = any(part.target.endswith("WeightAveraging") for part in self.callbacks.values())  # by step, not by chunk
        for group, lost in (("scheduler", moves_momentum), ("augmentation", draws_elsewhere), ("callbacks", averages)):
            if self.cuda_graph and lost:
                raise ValueError(f"cuda_graph=true: a recorded step leaves out what this {group} does; use cuda_graph=false")
        return self

    @model_validator(mode="after")
    def what_is_watched_is_measured(self) -> Self:
        split = "val" if self.data.val_images else "test"
        measured = [f"{part}/{figure}" for part in ("train", split) for figure in ("loss", "acc")]
        watching = {"scheduler": self.scheduler} | {f"callbacks.{name}": part for name, part in self.callbacks.items()}
        log_nothing = all(part.target.startswith("lightning.") for part in self.callbacks.values())
        for key, part in watching.items() if log_nothing else ():
            if (monitor := getattr(part, "monitor", None)) not in (None, *measured):
                raise ValueError(f"{key}.monitor={monitor}: the run measures {', '.join(measured)}; name one of them")
        return self

    @model_validator(mode="after")
    def resume_says_what_ckpt_path_says(self) -> Self:
        if self.ckpt_path == "last" and not self.resume:
            raise ValueError("resume=false: contradicts ckpt_path=last, which is resume=true in other words; leave one out")
        return self

"""The verdict of a run: what was asked, what was reached, how sure that is; as JSON and as the text a user reads."""

import html
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import ConfigDict

from mnist_lightning import files
from mnist_lightning.config.compose import choice_for
from mnist_lightning.evaluation.budgets import BUDGETS, size_lines
from mnist_lightning.terminal import printable

PASSED, MISSED, ERROR, INTERRUPTED = "passed", "missed", "error", "interrupted"
PRUNED = "pruned"  # stopped early, since other jobs of the sweep do better
UNKNOWN = "unknown"  # data set of a run that has not begun


def percent(fraction: float | None) -> str:
    """A fraction as a percentage with the two decimals that 10,000 images resolve."""
    return "not measured" if fraction is None else f"{100 * fraction:.2f} %"


def not_judged(min_accuracy: float, gate_dataset: str, dataset: str) -> str:
    """Why an accuracy was not judged, and the gate that would judge it."""
    choice = choice_for("gate", "dataset", dataset)
    way_out = f"; gate={choice} has one" if choice else ""
    return f"not judged: the target of {percent(min_accuracy)} is for {gate_dataset}, not for {dataset}{way_out}"


@dataclass
class Verdict:
    """Everything a run is judged by; `verdict.json` holds these fields. Accuracies are fractions in [0, 1]."""

    __pydantic_config__ = ConfigDict(allow_inf_nan=False)  # for those who read it back: a measured figure is a number

    status: str  # PASSED, MISSED, ERROR (crashed), INTERRUPTED or PRUNED; the last three judge nothing
    passed: bool
    reasons: list[str]  # why it did not pass
    rule: str
    accuracy: float | None  # on the test images, by the rule: what is compared with `min_accuracy`
    # Best and last are of the images each epoch was evaluated on: "test", or "val" with a hold-out. Epochs count from 1.
    best_accuracy: float | None
    best_epoch: int | None
    last_accuracy: float | None
    epoch_split: str
    interval_95: tuple[float, float] | None  # Wilson's, of `accuracy` on `test_images` images
    test_images: int | None
    selected_on_test: bool  # whether the epoch was chosen by looking at the test set
    accuracy_judged: bool  # False where `dataset` is not `gate_dataset`
    params: int | None  # that `count` counts
    max_params: int
    min_accuracy: float
    within_epochs: int
    on_miss: str
    model: str
    seed: int
    dataset: str
    epochs: int  # finished
    seconds: float  # wall time of training and evaluation
    epochs_to_target: int | None = None  # first epoch whose accuracy was at least `min_accuracy`
    count: str = "trainable"  # or "all"
    frozen_params: int | None = None
    # Sizes with a limit, which are strictly below it in what passes; a limit of None is no budget, and measures nothing.
    multiply_adds: int | None = None  # per image
    max_multiply_adds: int | None = None
    activation_bytes: int | None = None  # alive at once, of one image in float32
    max_activation_bytes: int | None = None
    file_bytes: int | None = None  # of the network exported as int8
    max_file_bytes: int | None = None
    max_epochs: int | None = None  # that the run was to have; older verdicts do not say
    gate_dataset: str = "MNIST"  # that `min_accuracy` was chosen for
    num_test_images: int | None = None  # that there are; older verdicts do not say
    exit_status: int = 1
    device: str = ""
    versions: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Whatever led here: without evidence nothing passes, but is an error."""
        if self.passed and (lacking := self._lacking()):
            self.status, self.passed, self.reasons = ERROR, False, lacking

    def _lacking(self) -> list[str]:
        """What a verdict needs and this one has not, in the process that writes it."""
        lacking = {
            "no epoch was finished": self.epochs < 1,
            **{f"the {one.unit} were not counted": self._not_counted(one.size) for one in BUDGETS},
            "the data set is unknown": self.dataset == UNKNOWN,
            "the accuracy was not measured": self.accuracy_judged and self.accuracy is None,
            f"only {self.test_images} of {self.num_test_images} test images were measured": (
                self.accuracy_judged and (self.test_images or 0) < (self.num_test_images or 0)
            ),
        }
        return [what for what, is_so in lacking.items() if is_so]

    def _not_counted(self, size: str) -> bool:
        return getattr(self, f"max_{size}") is not None and getattr(self, size) is None

    def write(self, path: Path) -> None:
        files.write(path, json.dumps(asdict(self), indent=2) + "\n")

    def text(self) -> str:
        """The verdict in a few lines for the terminal."""
        return "\n".join([self._head(), *(f"  {name:10}  {text}" for name, text in self._lines())])

    def _repr_html_(self) -> str:
        """The same as a table in a notebook's cell."""
        rows = "".join(f"<tr><th>{name}</th><td>{html.escape(text)}</td></tr>" for name, text in self._lines())
        return f"<table><caption><b>{html.escape(self._head())}</b></caption>{rows}</table>"

    def _lines(self) -> list[tuple[str, str]]:
        """Name and text of each line below the head; printable, whatever a name holds."""
        rows = [("reason", reason) for reason in self.reasons]
        rows.append(("accuracy", self._accuracy_text()))
        evaluated = "test" if self.epoch_split == "test" else "hold-out"
        if self.best_epoch is not None:
            best = f"best {evaluated} accuracy {percent(self.best_accuracy)} (epoch {self.best_epoch})"
            rows.append(("epochs", f"{best}, last {percent(self.last_accuracy)} (epoch {self.epochs})"))
        rows += size_lines(vars(self), vars(self))
        if self.accuracy is not None:
            rows.append(("test set", self._selection_text()))
        return [(name, printable(text)) for name, text in rows]

    def _head(self) -> str:
        head = "FAILED" if self.status == ERROR else self.status.upper()
        if self.passed and not self.accuracy_judged:
            head = "NOT JUDGED"
        epochs = "1 epoch" if self.epochs == 1 else f"{self.epochs} epochs"
        if self.epochs < (self.max_epochs or 0):
            epochs = f"{self.epochs} of {self.max_epochs} epochs"
        return printable(f"{head}  {self.model} on {self.dataset}, seed {self.seed}, {epochs}, {self.seconds:.0f} s")

    def _accuracy_text(self) -> str:
        if self.accuracy is None:
            return "not measured"
        text = f"{percent(self.accuracy)} test accuracy by the rule {self.rule!r}"
        if self.interval_95 is not None:
            low, high = self.interval_95
            text += f", 95 % interval {100 * low:.2f} to {100 * high:.2f} % on {self.test_images:,} images"
        if not self.accuracy_judged:
            return f"{text}; {not_judged(self.min_accuracy, self.gate_dataset, self.dataset)}"
        return f"{text}; target {percent(self.min_accuracy)} within {self.within_epochs} epochs"

    def _selection_text(self) -> str:
        if self.epoch_split != "test":
            return "measured once, at the end; not used to select anything"
        if self.selected_on_test:
            use = "select the epoch" if self.rule == "best" else "steer the run"
            return f"measured after every epoch and used to {use}: the accuracy is optimistic"
        return "measured after every epoch, not used to select anything"

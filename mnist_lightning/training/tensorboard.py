"""What TensorBoard shows of a run: curves by epoch, pictures of the trained network, texts, and hyperparameters with results.

Steps are epochs, counted from 1. What a resumed run writes again takes the place of what was there.
"""

import contextlib
import functools
import logging
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from omegaconf import DictConfig, OmegaConf
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard._pytorch_graph import graph
from torchmetrics.utilities.distributed import gather_all_tensors

from mnist_lightning.config.errors import one_line
from mnist_lightning.data.datamodule import DigitsDataModule
from mnist_lightning.evaluation.run_directories import settings, shown
from mnist_lightning.evaluation.verdict import Verdict
from mnist_lightning.models.probe import IMAGE_SHAPE
from mnist_lightning.models.summary import summarize, table
from mnist_lightning.models.trace import evaluating
from mnist_lightning.terminal import printable
from mnist_lightning.training.callbacks import EpochTable
from mnist_lightning.training.lit_module import LitClassifier

log = logging.getLogger(__name__)

# Charts of the tab CUSTOM SCALARS: title, and a pattern of the curves in it.
CHARTS = {
    "accuracy: train, evaluation, target": r"(train|val|test|target)/acc$",
    "loss: train, evaluation": r"(train|val|test)/loss$",
    "gap: train accuracy less evaluation accuracy": r"gap/acc$",
    "learning rate, after the epoch's last step": r"lr$",
    "seconds per epoch, with its evaluation": r"seconds$",
}
NUM_AUGMENTED = 36  # training images shown before and after augmentation
RECORD = ".verdict"  # end of the name of the event file that `record` writes


class Events(TensorBoardLogger):
    """TensorBoard events in the run's own directory; TensorBoard leaves out what it finds of epochs after these."""

    def __init__(self, directory: Path, epochs: int = 0) -> None:
        # Without `hp_metric`, an accuracy of -1 in the tab HPARAMS, which `record` fills at the end.
        super().__init__(directory, name="", version="", default_hp_metric=False, purge_step=epochs + 1)

    def save(self) -> None:
        self.experiment.flush()  # and no hparams.yaml, which Lightning writes here: config.yaml says the same


class Dashboard(L.Callback):
    """Writes the events of a run: texts and graph at its start, a point on every curve per epoch, pictures at its end."""

    def __init__(self, cfg: DictConfig, events: Events, epochs: EpochTable) -> None:
        self.cfg = cfg
        self.events = events
        self.epochs = epochs  # a callback before this one

    def on_fit_start(self, trainer: L.Trainer, pl_module: LitClassifier) -> None:  # type: ignore[override]
        if not trainer.is_global_zero or trainer.ckpt_path is not None:  # a resumed run has them
            return
        net, writer = pl_module.net, self.events.experiment
        writer.add_text("config", _as_code(OmegaConf.to_yaml(self.cfg, resolve=True)))
        with _documenting("layers"):
            writer.add_text("layers", _as_code(table(net)))
        writer.add_custom_scalars({"curves": {title: ["Multiline", [tags]] for title, tags in CHARTS.items()}})
        with _documenting("graph"):
            _add_graph(writer, net, OmegaConf.to_yaml(self.cfg.model, resolve=True))
        self.events.save()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: LitClassifier) -> None:  # type: ignore[override]
        split = trainer.datamodule.epoch_split  # type: ignore[attr-defined]
        row, epoch = self.epochs.rows[-1], trainer.current_epoch + 1
        curves = {name: value for name, value in row.items() if name not in ("epoch", "step")}
        evaluated = f"{split}/acc" in row  # an argument of the trainer can leave out an epoch's evaluation
        if evaluated:
            curves |= {"gap/acc": row["train/acc"] - row[f"{split}/acc"], "target/acc": self.cfg.gate.min_accuracy}
        self.events.log_metrics(curves, epoch)
        at_end = split == "test" and epoch == trainer.max_epochs
        if evaluated and (self.cfg.pictures == "every" or (self.cfg.pictures == "last" and at_end)):
            self._draw(trainer, pl_module, split, epoch)
        # In the file before the epoch's checkpoint: a run that goes on from that misses no point.
        self.events.save()

    def on_test_end(self, trainer: L.Trainer, pl_module: LitClassifier) -> None:  # type: ignore[override]
        # The one look at the test set of a run with a hold-out, a step past its last epoch, and the pictures of it.
        step = trainer.current_epoch + 1
        self.events.log_metrics({name: float(trainer.callback_metrics[name]) for name in ("test/loss", "test/acc")}, step)
        if self.cfg.pictures != "none":
            self._draw(trainer, pl_module, "test", step)
        self.events.save()

    def _draw(self, trainer: L.Trainer, pl_module: LitClassifier, split: str, step: int) -> None:
        """Pictures of the network as it is and of its latest evaluation."""
        logits, targets = (_of_all_processes(part, trainer.world_size) for part in pl_module.evaluated)
        if not trainer.is_global_zero:
            return
        from mnist_lightning.evaluation import figures  # matplotlib: not for a run without pictures

        data: DigitsDataModule = trainer.datamodule  # type: ignore[attr-defined]
        images = data.splits[split].images[: len(targets)].cpu()
        before = data.splits["train"].images[:NUM_AUGMENTED].float()
        after = data.augmentation(before[:, None])[:, 0]  # moves no number of training: every epoch is seeded anew
        draw = functools.partial(self.events.experiment.add_figure, global_step=step)
        draw(f"{split}/confusion_matrix", figures.confusion_matrix(logits, targets))
        draw(f"{split}/worst_mistakes", figures.worst_mistakes(images, logits, targets))
        draw("train/augmentation", figures.augmentation(before.cpu(), after.cpu()))
        for convolution in [module for module in pl_module.net.modules() if isinstance(module, nn.Conv2d)][:1]:
            draw("network/first_filters", figures.filters(convolution.weight.detach().cpu()))
        with _documenting("receptive fields"):
            draw("network/receptive_fields", figures.receptive_fields(summarize(pl_module.net)))


def _of_all_processes(part: Tensor, num_processes: int) -> Tensor:
    """What the processes of a run evaluated, `(N, …)` each, in the order of the images, on the CPU."""
    if num_processes == 1:
        return part.cpu()
    parts = gather_all_tensors(part)  # which may differ in length
    whole = torch.empty(sum(map(len, parts)), *part.shape[1:], dtype=part.dtype)
    for rank, share in enumerate(parts):
        whole[rank::num_processes] = share.cpu()  # as IndexBatches deals them out
    return whole


def record(verdict: Verdict, cfg: DictConfig, directory: Path) -> None:
    """Writes the end of a run, however it ended: verdict as text, hyperparameters, results, status.

    Written once, at the end: TensorBoard keeps the first status that it reads of a run, so that a run that was killed has none.
    The events are a file of their own, which replaces the one that the run left when it was interrupted. TensorBoard's status
    knows success and failure; the hyperparameter "Status" has the verdict's.
    """
    for path in directory.glob(f"*tfevents*{RECORD}"):
        path.unlink()
    now = time.time()
    start = SessionStartInfo(start_time_secs=now - verdict.seconds)
    for name, value in _hyperparameters(cfg, verdict).items():
        kind = "bool_value" if isinstance(value, bool) else "string_value" if isinstance(value, str) else "number_value"
        setattr(start.hparams[name], kind, value)
    status = api_pb2.STATUS_SUCCESS if verdict.passed else api_pb2.STATUS_FAILURE
    results = {
        "best_acc": verdict.best_accuracy,
        "last_acc": verdict.last_accuracy,
        "epochs_to_target": verdict.epochs_to_target,
        "params": verdict.params,
        "seconds": verdict.seconds,
    }
    with SummaryWriter(str(directory), filename_suffix=RECORD) as writer:
        writer.add_text("verdict", _as_code(verdict.text()), verdict.epochs)
        for name, result in results.items():
            if result is not None:
                for step in sorted({min(1, verdict.epochs), verdict.epochs}):  # a line: a dot can hardly be seen
                    writer.add_scalar(f"Verdict/{name}", result, step)
        # By hand: torch's add_hparams makes a run of its own and calls each a success; TensorBoard's functions want TensorFlow.
        end = SessionEndInfo(status=status, end_time_secs=now)
        for tag, content in (
            (metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=start)),
            (metadata.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=end)),
        ):
            about = metadata.create_summary_metadata(content)
            value = Summary.Value(tag=tag, metadata=about, tensor=metadata.NULL_TENSOR)
            writer.file_writer.add_summary(Summary(value=[value]))


def _hyperparameters(cfg: DictConfig, verdict: Verdict) -> dict[str, Any]:
    """What the HPARAMS tab lists of a configuration, and how the run ended; a group's target by the group's name."""
    values = {key.removesuffix("._target_"): value for key, value in settings(cfg).items() if not key.endswith("._partial_")}
    plain = {
        printable(key): value if isinstance(value, (bool, int, float)) else printable(shown(value))
        for key, value in values.items()
    }
    return plain | {"Status": verdict.status}  # capitals sort first, and TensorBoard shows the first five columns


def _as_code(text: str) -> str:
    """Text as a code block of Markdown: indented, so that nothing in it is read as markup."""
    return "\n".join(f"    {printable(line)}" for line in text.split("\n"))


_graphs: dict[str, Any] = {}  # by configuration: torch keeps 5 MB of each that it traces, which adds up over a sweep's jobs


def _add_graph(writer: SummaryWriter, net: nn.Module, configuration: str) -> None:
    with warnings.catch_warnings(), evaluating(net):
        warnings.simplefilter("ignore")  # torch's way to graphs calls torch.jit.trace, which torch calls deprecated
        if configuration not in _graphs:
            device = next(net.parameters()).device
            _graphs[configuration] = graph(net, torch.zeros(1, *IMAGE_SHAPE, device=device))
    writer._get_file_writer().add_graph(_graphs[configuration])


@contextlib.contextmanager
def _documenting(what: str) -> Iterator[None]:
    """Something that only describes a network, which may be of any kind: it never ends a run."""
    try:
        yield
    except Exception as error:
        log.info("no %s for TensorBoard: %s", what, one_line(error))

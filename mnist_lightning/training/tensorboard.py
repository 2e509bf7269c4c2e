"""What TensorBoard shows of a run beside curves and pictures: texts, graph, charts, and hyperparameters with results.

What a resumed run writes again takes the place of what was there.
"""

import contextlib
import logging
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.loggers import TensorBoardLogger
from omegaconf import DictConfig, OmegaConf
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard._pytorch_graph import graph

from mnist_lightning.config.errors import one_line
from mnist_lightning.evaluation.verdict import Verdict
from mnist_lightning.models.probe import IMAGE_SHAPE
from mnist_lightning.models.summary import summarize, table
from mnist_lightning.models.trace import evaluating
from mnist_lightning.terminal import printable
from mnist_lightning.training.loggers import hyperparameters, results

log = logging.getLogger(__name__)

# Charts of the tab CUSTOM SCALARS: title, and a pattern of the curves in it.
CHARTS = {
    "accuracy: train, evaluation, target": r"(train|val|test|target)/acc$",
    "loss: train, evaluation": r"(train|val|test)/loss$",
    "gap: train accuracy less evaluation accuracy": r"gap/acc$",
    "learning rate, after the epoch's last step": r"lr$",
    "seconds per epoch, with its evaluation": r"seconds$",
}
RECORD = ".verdict"  # end of the name of the event file that `record` writes


class Events(TensorBoardLogger):
    """TensorBoard events in the run's own directory; TensorBoard leaves out what it finds of epochs after these."""

    def __init__(self, directory: Path) -> None:
        # Without `hp_metric`, an accuracy of -1 in the tab HPARAMS, which `record` fills at the end.
        super().__init__(directory, name="", version="", default_hp_metric=False)

    def save(self) -> None:
        self.experiment.flush()  # and no hparams.yaml, which Lightning writes here: config.yaml says the same

    def go_on(self, epochs: int) -> int:
        self.told = epochs if list(Path(self.log_dir).glob("*tfevents*")) else 0
        self._kwargs["purge_step"] = self.told + 1
        return self.told

    def begin(self, cfg: DictConfig, net: nn.Module) -> None:
        """Texts, graph and charts; a resumed run has them."""
        if self.told:
            return
        writer = self.experiment
        writer.add_text("config", _as_code(OmegaConf.to_yaml(cfg, resolve=True)))
        with documenting("layers"):
            writer.add_text("layers", _as_code(table(summarize(net))))
        writer.add_custom_scalars({"curves": {title: ["Multiline", [tags]] for title, tags in CHARTS.items()}})
        with documenting("graph"):
            _add_graph(writer, net, OmegaConf.to_yaml(cfg.model, resolve=True))
        self.save()

    def draw(self, name: str, figure: Any, epoch: int) -> None:
        self.experiment.add_figure(name, figure, global_step=epoch)

    def conclude(self, verdict: Verdict, cfg: DictConfig) -> None:
        record(verdict, cfg, Path(self.log_dir))


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
    # Capitals sort first, and TensorBoard shows the first five columns.
    for name, value in (hyperparameters(cfg) | {"Status": verdict.status}).items():
        kind = "bool_value" if isinstance(value, bool) else "string_value" if isinstance(value, str) else "number_value"
        setattr(start.hparams[name], kind, value)
    status = api_pb2.STATUS_SUCCESS if verdict.passed else api_pb2.STATUS_FAILURE
    with SummaryWriter(str(directory), filename_suffix=RECORD) as writer:
        writer.add_text("verdict", _as_code(verdict.text()), verdict.epochs)
        for name, result in results(verdict).items():
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
def documenting(what: str) -> Iterator[None]:
    """Something that only describes a network, which may be of any kind: it never ends a run."""
    try:
        yield
    except Exception as error:
        log.info("no %s for TensorBoard: %s", what, one_line(error))

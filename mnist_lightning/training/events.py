"""TensorBoard's event files: what an epoch logged is on disk before the epoch's checkpoint, and a full disk is an error.

TensorBoard's own writer has a thread, whose errors appear as a stack trace on the terminal and name no file.
"""

import itertools
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import FileWriter, SummaryWriter

from mnist_lightning.files import AppendedFile

_number = itertools.count()  # of an event file of this process, so that two of one second have two names


class _EventFile:
    """What torch's FileWriter needs of TensorBoard's EventFileWriter."""

    def __init__(self, directory: Path, suffix: str) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time():010.0f}.{socket.gethostname()}.{os.getpid()}.{next(_number)}{suffix}"
        self._file = AppendedFile(directory / name)
        self._records = RecordWriter(self._file)
        self.add_event(Event(wall_time=time.time(), file_version="brain.Event:2"))
        self.flush()

    def get_logdir(self) -> str:
        return str(self.directory)

    def add_event(self, event: Event) -> None:
        self._records.write(event.SerializeToString())

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class _FileWriter(FileWriter):
    def __init__(self, directory: Path, suffix: str) -> None:
        self.event_writer = _EventFile(directory, suffix)


class EventWriter(SummaryWriter):
    """torch's writer of summaries, whose `flush` returns when they are on disk and raises an OSError with the path.

    Args:
        directory: Where the event files go.
        suffix: End of their names.
    """

    def __init__(self, directory: Path, suffix: str = "") -> None:
        self.directory = directory
        self.suffix = suffix
        super().__init__(str(directory))

    def _get_file_writer(self) -> FileWriter:
        writer: Any = self.file_writer
        if writer is None:
            writer = _FileWriter(self.directory, self.suffix)
            self.file_writer = writer
            self.all_writers: Any = {str(self.directory): writer}
            if self.purge_step is not None:
                start = SessionLog(status=SessionLog.START)  # at which TensorBoard forgets this step and later ones
                writer.add_event(Event(session_log=start), self.purge_step)
                self.purge_step = None
        return writer


class Events(TensorBoardLogger):
    """TensorBoard events in the run's own directory; the configuration lies beside them."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, name="", version="", default_hp_metric=False)

    @property
    @rank_zero_experiment
    def experiment(self) -> SummaryWriter:
        if self._experiment is None:
            self._experiment = EventWriter(Path(self.log_dir))
        return self._experiment

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        # Lightning adds the epoch to everything: a chart of a straight line.
        super().log_metrics({name: value for name, value in metrics.items() if name != "epoch"}, step)

    def save(self) -> None:
        """Brings to disk what was logged; writes no hparams.yaml, since config.yaml says the same."""
        self.experiment.flush()

    def forget_from(self, epoch: int) -> None:
        """Makes TensorBoard leave out what earlier files hold of this epoch and later ones."""
        self.experiment.close()
        self.experiment.purge_step = epoch  # written as the first event of the next file, which the next event opens

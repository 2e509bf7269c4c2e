"""What runs, sweeps and trained networks show of themselves in a cell."""

import html
import io
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_lightning.config.errors import ConfigError
from mnist_lightning.evaluation.run_directories import find_runs, read_run
from mnist_lightning.evaluation.verdict import Verdict
from mnist_lightning.terminal import complain

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike
    from PIL import Image

    from mnist_lightning.inference.load import Trained
    from mnist_lightning.study.finished import Result


class Run:
    """A run by its directory: verdict, figures of every epoch, curves, mistakes.

    With `trust`, a network that does not come with this project may be imported, which runs its code.
    """

    def __init__(self, directory: str | Path, trust: bool = False) -> None:
        self.directory, self.trust = Path(directory), trust

    @property
    def verdict(self) -> Verdict:
        """What was asked and what was reached; a ConfigError where there is none."""
        found = read_run(self.directory)
        if not found.verdict:
            raise ConfigError(f"{self.directory}: no verdict ({found.why}); name the folder of a run that has ended")
        return Verdict(**found.verdict)

    @property
    def epochs(self) -> "pd.DataFrame":
        """A row per epoch, as in metrics.csv: losses, accuracies as fractions, lr, seconds."""
        import pandas as pd

        rows = [row | {name: int(row[name]) for name in ("epoch", "step")} for row in self._result.epochs]
        return pd.DataFrame(rows)

    def curves(self) -> "Figure":
        """Loss and accuracy, train and test, by epoch."""
        from mnist_lightning.study.curves import Group, draw

        verdict, epochs = self.verdict, self._result.epochs
        if not epochs:
            raise ConfigError(f"{self.directory}: no epoch was finished, so there are no curves")
        target = verdict.min_accuracy if verdict.accuracy_judged else None
        return _shown(draw([Group(f"{verdict.model}, seed {verdict.seed}", [epochs])], target, summarised=False))

    def mistakes(self) -> "Figure":
        """The test images that it got wrong, the most confident first. A ConfigError where there is no network or no data."""
        from mnist_lightning.evaluation.figures import worst_mistakes

        made = self._result.predictions
        if isinstance(made, str):
            raise ConfigError(made)
        return _shown(worst_mistakes(made.images, made.logits, made.targets))

    @property
    def _result(self) -> "Result":
        from mnist_lightning.study.finished import Result

        return Result(read_run(self.directory), self.trust, str(self.directory))

    def __repr__(self) -> str:
        return f"{self.verdict.text()}\n  outputs     {self.directory}"

    def _repr_html_(self) -> str:
        return f"{self.verdict._repr_html_()}<p>{html.escape(str(self.directory))}</p>"


@dataclass(frozen=True)
class Sweep:
    """A sweep by its directory."""

    directory: Path

    @property
    def runs(self) -> list[Run]:
        return [Run(run.directory, trust=True) for run in find_runs([self.directory])]

    @property
    def table(self) -> "pd.DataFrame":
        """The leaderboard: a row per configuration, seeds averaged, the best first."""
        import pandas as pd

        from mnist_lightning.study.aggregate import aggregate
        from mnist_lightning.study.leaderboard import ranked, rows_of

        return pd.DataFrame(rows_of(ranked(aggregate(find_runs([self.directory])))))

    def picture(self) -> "Figure":
        """Accuracy over what was swept; a ConfigError where it was not one key or two, or too few runs have finished."""
        from mnist_lightning.study.sweep_picture import picture

        figure = picture(find_runs([self.directory]))
        if figure is None:
            raise ConfigError(f"{self.directory}: a picture needs two finished runs at least that differ in one key or two")
        return _shown(figure)

    def _repr_html_(self) -> str:
        return f"{self.table.to_html(index=False)}<p>{html.escape(str(self.directory))}</p>"


@dataclass(frozen=True)
class Network:
    """A trained network."""

    trained: "Trained"

    def predict(self, pictures: "str | Path | Image.Image | ArrayLike") -> "pd.DataFrame":
        """A row per picture of one digit: digit, confidence, runner-up, what makes it unsure, all ten probabilities.

        Args:
            pictures: A file, a folder of such, an image of Pillow's, or an array: `(H, W)`, `(N, H, W)` or in colour
                `(H, W, 3)`, uint8 or floats in [0, 1]. Any size, dark on light or light on dark.

        Raises:
            ConfigError: There is no digit in it. Of a folder, files without one are named and left out.
        """
        import numpy as np
        import pandas as pd
        from PIL import Image

        from mnist_lightning.inference.pictures import PictureError
        from mnist_lightning.inference.predict import predict, predict_array

        if isinstance(pictures, (str, Path)):
            records, refused = predict(self.trained.net, [Path(pictures)])
            if not records:
                raise ConfigError("\n".join(refused))
            complain("\n".join(refused))
            return pd.DataFrame(records)
        try:
            array = _pixels(pictures) if isinstance(pictures, Image.Image) else np.asarray(pictures)
            return pd.DataFrame(predict_array(self.trained.net, array))
        except PictureError as error:
            raise ConfigError(str(error)) from None

    def __repr__(self) -> str:
        return f"network of {self.trained.source}"


def _pixels(image: "Image.Image") -> Any:
    """An image of Pillow's, whatever its mode, as floats in [0, 1], `(H, W, 3)`."""
    from PIL import ImageOps

    from mnist_lightning.inference.photos import PHOTO_SIDE
    from mnist_lightning.inference.pictures import read

    file = io.BytesIO()
    ImageOps.exif_transpose(image).save(file, "TIFF")
    file.seek(0)
    return (read(file, PHOTO_SIDE) / 255).clip(0, 1)


def _shown(figure: "Figure") -> "Figure":
    """Lets a cell show a figure that pyplot does not know."""
    vars(figure)["_repr_png_"] = partial(_png, figure)
    return figure


def _png(figure: "Figure") -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()

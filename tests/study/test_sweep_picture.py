"""The picture of a sweep, by what its axes hold."""

from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from mnist_lightning.evaluation.run_directories import Run
from mnist_lightning.study.sweep_picture import draw_sweep


def run(accuracy: float | None, seed: int = 0, **config: Any) -> Run:
    verdict = {"accuracy": accuracy, "epoch_split": "test", "params": 1, "accuracy_judged": config.pop("judged", True)}
    values = {key.replace("__", "."): value for key, value in config.items()}
    status = "error" if accuracy is None else "passed"
    return Run(Path("x"), status, {"seed": seed, "gate.min_accuracy": 0.994, **values}, verdict)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that is saved."""
    saved: list[Figure] = []
    original = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **kw: saved.append(self) or original(self, *args, **kw))
    return saved


def test_one_swept_number_is_a_line_on_a_log_axis(tmp_path: Path, figures: list[Figure]) -> None:
    runs = [run(0.99 + lr / 100, seed, optimizer__lr=lr) for lr in (0.1, 0.01, 0.001) for seed in (0, 1)]
    runs.append(run(None, optimizer__lr=1.0))  # failed: no dot
    assert draw_sweep(runs, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 5000
    [axes] = figures[0].axes
    assert (axes.get_xscale(), axes.get_xlabel(), axes.get_ylabel()) == ("log", "lr", "test accuracy, %")
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert [list(dot.get_xdata()) for dot in dots] == [[0.001] * 2, [0.01] * 2, [0.1] * 2]
    assert dots[2].get_ydata() == pytest.approx([99.1, 99.1])
    assert any(list(line.get_ydata()) == [99.4, 99.4] for line in axes.lines)  # the target
    assert axes.get_title() == "every seed a dot (n = 2); mean with its 95 % interval"
    assert not list(tmp_path.glob("*.part*"))


def test_without_a_judged_accuracy_there_is_no_target(tmp_path: Path, figures: list[Figure]) -> None:
    assert draw_sweep([run(0.5 + lr, judged=False, a__lr=lr) for lr in (0.1, 0.2)], tmp_path / "a.png")
    assert not figures[0].axes[0].texts


def test_names_stand_side_by_side(tmp_path: Path, figures: list[Figure]) -> None:
    runs = [run(0.99, model___target_="m.Net1"), run(0.995, model___target_="m.Net3")]
    assert draw_sweep(runs, tmp_path / "a.png")
    [axes] = figures[0].axes
    assert axes.get_xscale() == "linear"
    assert [text.get_text() for text in axes.get_xticklabels()] == ["Net3", "Net1"]  # best first


def test_two_swept_values_are_a_heat_map_of_means(tmp_path: Path, figures: list[Figure]) -> None:
    runs = [run(0.99 + 0.001 * seed, seed, a__lr=lr, b__p=p) for lr in (2, 10) for p in (0, 1) for seed in (0, 2)][:-2]
    assert draw_sweep(runs, tmp_path / "a.png")
    axes = figures[0].axes[0]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("lr", "p")
    assert [text.get_text() for text in axes.get_yticklabels()] == ["2", "10"]  # as numbers, not as words
    assert [text.get_text() for text in axes.texts] == ["99.10", "99.10", "99.10"]  # the fourth was not finished


@pytest.mark.parametrize(
    "runs",
    [
        [],
        [run(0.99, seed=0), run(0.99, seed=1)],
        [run(None, a__lr=1), run(0.99, a__lr=2)],
        [run(0.99, a__x=x, a__y=x, a__z=x) for x in (1, 2)],
    ],
    ids=["no runs", "seeds alone", "one result", "three keys"],
)
def test_what_has_no_picture_is_not_drawn(tmp_path: Path, runs: list[Run]) -> None:
    assert not draw_sweep(runs, tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []

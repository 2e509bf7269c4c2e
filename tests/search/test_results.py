"""What a search shows of what it has found."""

import pytest

from mnist_lightning.config.compose import compose_config
from mnist_lightning.evaluation.verdict import PRUNED
from mnist_lightning.search.picture import picture
from mnist_lightning.search.results import FAILED, Row, front, progress, summary
from mnist_lightning.search.rules import FINISHED, Plans, Search
from mnist_lightning.study.published import CLAIMS


def row(number: int, params: int, accuracy: float | None, loss: float = 0.1, state: str = FINISHED) -> Row:
    return Row(number, state, accuracy, loss, params, 10 * params, 4 * params, params, 3, f"model.plan=[c{params},head]")


TABLE = [row(0, 900, 0.95), row(1, 400, 0.91), row(2, 500, 0.90), row(3, 400, 0.93), row(4, 100, 0.99, state=PRUNED)]


@pytest.fixture
def search() -> Search:
    fields = {name: [1] for name in Plans.model_fields} | {"share": ["none"]}
    values = {"trials": 9, "workers": 1, "name": None, "storage": None, "criterion": "acc", "objective": "params"}
    return Search.model_validate(values | {"sampler": "tpe", "prune_after": [], "keep": 0.5, "plan": fields, "vary": {}})


def test_the_front_holds_what_nothing_smaller_beats(search: Search) -> None:
    assert [one.trial for one in front(TABLE, search)] == [3, 0]


def test_the_front_by_loss_holds_the_lower_losses(search: Search) -> None:
    table = [row(0, 900, 0.95, loss=0.3), row(1, 400, 0.91, loss=0.2)]
    assert [one.trial for one in front(table, search.model_copy(update={"criterion": "loss"}))] == [1]


def test_the_line_after_a_trial_says_how_far_the_search_is(search: Search) -> None:
    line = progress(4, [*TABLE, row(5, 50, None, state=FAILED)], search)
    assert line.startswith("trial 4: 99.00 %, 100 parameters, pruned after epoch 3; 6 of 9 trials, 1 pruned; ")
    assert line.endswith("best 95.00 % on the hold-out with 900 (trial 0)")


def test_a_search_without_a_finished_trial_has_a_summary(search: Search) -> None:
    assert "1 of 9 trials: 1 failed." in summary([row(5, 50, None, state=FAILED)], search)


def test_the_picture_shows_trials_target_and_what_others_state() -> None:
    figure = picture(TABLE, [TABLE[3], TABLE[0]], compose_config(), "params")
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[:4] == ["trial", "front", "target 99.4 %", "JoshWarn, best epoch"]
    assert len(labels) == 3 + len(CLAIMS)
    assert figure.axes[0].get_xscale() == "log"


def test_the_best_trial_is_in_the_picture_however_far_below_the_target() -> None:
    low, high = picture(TABLE, [TABLE[3], TABLE[0]], compose_config(), "params").axes[0].get_ylim()
    assert low < 100 * (TABLE[0].accuracy or 0) < 99.4 < high


def test_a_picture_of_other_data_has_no_target() -> None:
    figure = picture(TABLE, [TABLE[3]], compose_config("data=synthetic"), "params")
    assert len(figure.legends[0].get_texts()) == 2

"""What sweeps cost: their whole commands are timed, and the tables are medians."""

import pytest

from mnist_lightning.benchmark import sweeps
from mnist_lightning.benchmark.sweeps import Side
from tests.conftest import TINY


@pytest.mark.torture
def test_sweeps_are_timed_with_what_their_jobs_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps, "THROUGHPUT", (Side(2, 1),))
    monkeypatch.setattr(sweeps, "OVERHEAD", (Side(1, 1),))
    monkeypatch.setattr(sweeps, "NUM_JOBS", 2)
    report = sweeps.measure_sweeps(TINY, rounds=1, jobs=1)
    assert [(sweep["table"], sweep["jobs"], sweep["at_a_time"]) for sweep in report["sweeps"]] == [
        ("throughput", 2, 2),
        ("overhead", 1, 1),
    ]
    assert all(0 < sweep["trained"] / sweep["at_a_time"] < sweep["seconds"] for sweep in report["sweeps"])


@pytest.mark.slow
def test_a_sweep_that_fails_is_no_measurement() -> None:
    with pytest.raises(RuntimeError, match=r"0 of 1 jobs finished\n(.|\n)*optimizer.lr=-1: "):
        sweeps.sweep_seconds(Side(1, 1), ["optimizer.lr=-1"], 1)


def record(*values: object) -> dict[str, object]:
    return dict(zip(("table", "round", "jobs", "at_a_time", "threads", "seconds", "trained"), values, strict=True))


def test_the_tables_of_sweeps_are_medians() -> None:
    """Of figures that can be worked out by hand."""
    of_rounds = {(1, 2): (80.0, 100.0, 90.0), (2, 1): (40.0, 60.0, 30.0), (4, 1): (45.0, 50.0, 45.0)}
    records = [record("throughput", n, 4, *side, seconds[n], 0) for side, seconds in of_rounds.items() for n in range(3)]
    records += [record("overhead", 0, 1, 1, 1, 5.0, 1.0), record("overhead", 0, 2, 1, 1, 9.0, 3.0)]
    records += [record("overhead", 0, 1, 2, 1, 6.0, 1.0), record("overhead", 0, 2, 2, 1, 6.0, 3.0)]
    text = sweeps.sweeps_text({"rounds": 3, "sweeps": records})
    rows = [line.replace("|", " ").split() for line in text.splitlines() if line.startswith("|")]
    assert rows[2:5] == [
        ["1", "2", "90.0", "80.0", "100.0", "1.00"],
        ["2", "1", "40.0", "30.0", "60.0", "2.00"],
        ["4", "1", "45.0", "45.0", "50.0", "2.00"],
    ]
    assert rows[7:] == [
        *(["1", "1", "5.0", "4.00"], ["1", "2", "6.0", "5.00"]),
        *(["2", "1", "9.0", "3.00"], ["2", "2", "6.0", "4.50"]),
    ]

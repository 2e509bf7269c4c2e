"""What sweeps cost: their whole commands are timed, and the table is of medians."""

import pytest

from mnist_lightning.benchmark import sweeps
from tests.conftest import TINY


@pytest.mark.torture
def test_sweeps_are_timed_with_what_their_jobs_trained(capsys: pytest.CaptureFixture[str]) -> None:
    report = sweeps.measure_sweeps(TINY[:-1], rounds=1, jobs=2)  # without its sweep.jobs
    ways = [(sweep["jobs"], sweep["way"]) for sweep in report["sweeps"] if sweep["way"] != "on Ray"]
    assert ways == [(jobs, way) for jobs in (1, 2) for way in ("one after another", "side by side")]
    assert "2 jobs, side by side: " in capsys.readouterr().out  # each as it ends
    assert all(0 < sweep["trained"] / sweep["jobs"] < sweep["seconds"] for sweep in report["sweeps"])


@pytest.mark.slow
def test_a_sweep_that_fails_is_no_measurement() -> None:
    with pytest.raises(RuntimeError, match=r"0 of 1 jobs finished\n(.|\n)*optimizer.lr=-1: "):
        sweeps.sweep_seconds(["optimizer.lr=-1"], 1)


def test_the_table_of_sweeps_is_of_medians() -> None:
    """Of figures that can be worked out by hand."""
    one, two = (8.0, 10.0, 9.0), (4.0, 2.5, 9.0)
    records = [
        {"round": number, "jobs": jobs, "way": way, "seconds": jobs * seconds[number], "trained": 5.0 * jobs}
        for number in range(3)
        for jobs in (1, 2)
        for way, seconds in (("one after another", one), ("side by side", two))
    ]
    text = sweeps.sweeps_text({"rounds": 3, "sweeps": records})
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    assert rows[0] == ["jobs", "one after another, s", "side by side, s", "side by side, times as fast", "not training, s/job"]
    assert rows[2:] == [["1", "9.0", "4.0", "2.00", "4.00"], ["2", "18.0", "8.0", "2.00", "4.00"]]

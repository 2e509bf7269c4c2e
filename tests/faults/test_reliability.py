"""docs/reliability.md tells of every area of the fault harness, with the trials of docs/reliability.csv."""

import csv
import re
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
PAGE = (CHECKOUT / "docs" / "reliability.md").read_text("utf-8")


def _rows() -> dict[str, list[str]]:
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| ")]
    return {row[0]: row[1:] for row in cells[2:]}


def test_the_page_has_the_trials_of_the_run() -> None:
    with (CHECKOUT / "docs" / "reliability.csv").open(newline="", encoding="utf-8") as file:
        run = {row["area"]: row for row in csv.DictReader(file)}
    told = _rows()
    assert told.keys() == run.keys()
    for area, row in run.items():
        assert told[area][-2:] == [f"{int(row['trials']):,}", row["failed"]], area


def test_the_page_has_every_area() -> None:
    sources = "".join(path.read_text("utf-8") for path in (CHECKOUT / "tests" / "faults").glob("test_*.py"))
    areas = set(re.findall(r'(?:trials\(|AREA = )"([^"]+)"', sources)) - {"harness"}
    assert _rows().keys() >= areas - {"soak"}

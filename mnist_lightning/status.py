"""Exit statuses of the commands."""

from collections.abc import Sequence

OK, FAILED, BAD_CONFIG, GATE_MISSED = 0, 1, 2, 3
SEVERITY = (OK, GATE_MISSED, BAD_CONFIG, FAILED)  # from best to worst


def worst(statuses: Sequence[int]) -> int:
    """The worst of several; a signal's, of which a job was stopped, is worse than any."""
    return max(statuses, key=lambda status: SEVERITY.index(status) if status in SEVERITY else len(SEVERITY), default=OK)

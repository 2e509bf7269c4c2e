"""Exit statuses of the commands."""

OK, FAILED, BAD_CONFIG, GATE_MISSED = 0, 1, 2, 3
SEVERITY = (OK, GATE_MISSED, BAD_CONFIG, FAILED)  # from best to worst

"""What a step, a run and a sweep cost, against the published loop and the machine."""

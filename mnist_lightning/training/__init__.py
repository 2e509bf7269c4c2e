"""One run: fit, LightningModule, schedules, callbacks, checkpoints, TensorBoard, resume."""

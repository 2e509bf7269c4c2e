"""What the publication says of its three experiments: the figures that reports and tables put beside ours."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One experiment as published."""

    network: str
    params: str
    train: float
    """Training accuracy, %."""
    best: float
    """Test accuracy of the best epoch, %."""
    seen: str


PUBLISHED = {
    "exp1": Published("Net1", "10.9k", 99.81, 99.22, "overfits after epoch 8, breaks the parameter budget"),
    "exp2": Published("Net2", "7.45k", 98.94, 98.99, "a small gap; underfits, misses the accuracy target"),
    "exp3": Published("Net3", "7.49k", 99.17, 99.43, "reaches 99.40 % at the 9th epoch and 99.43 % at the 12th"),
}

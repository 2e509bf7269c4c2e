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


@dataclass(frozen=True)
class Claim:
    """A network of another project: its size, and the test accuracy that its authors state, %."""

    repository: str
    params: int
    accuracy: float


# Mostly one run each, at the epoch that was best on the test images: above what the last epoch reaches.
CLAIMS = (
    Claim("JoshWarn/Parameter-Efficient-MNIST", 697, 99.03),
    Claim("ruslangrimov/mnist-minimal-model", 1_936, 99.1),
    Claim("Madhur-1/ERA-v1", 5_196, 99.43),
    Claim("Shwethaamrutha/TSAI-S6", 6_260, 99.44),
    Claim("nitin-vig/ERAv4S6", 7_070, 99.4),
    Claim("snehanshu-raj/ERA", 7_918, 99.52),
    Claim("uday96/EVA4-TSAI", 8_500, 99.49),
    Claim("nitinranjansharma/EVA5B2", 13_496, 99.46),
    Claim("pradeep6kumar/mnist_994", 19_898, 99.54),
)

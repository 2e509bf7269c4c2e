"""Small networks as other people write them: shapes of `forward`, layers and outputs that the shipped networks do not have."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Functional(nn.Module):
    """Functions between modules and a view in front of a linear head: how most write it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 8, 3, bias=False)
        self.fc = nn.Linear(8 * 11 * 11, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.dropout(F.relu(self.conv2(x)), 0.1, training=self.training)
        x = x.view(-1, 8 * 11 * 11)
        return F.log_softmax(self.fc(x), dim=1)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, stride=2)
        self.a = nn.Conv2d(4, 4, 3, padding=1)
        self.b = nn.Conv2d(4, 4, 5, padding=2)
        self.head = nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = x + self.b(torch.relu(self.a(x)))
        x = self.a(x).add_(x)
        return self.head(x.mean((2, 3)))


class Branches(nn.Module):
    """Two branches joined by their channels, and a squeeze that weighs them."""

    def __init__(self) -> None:
        super().__init__()
        self.small, self.large = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(1, 3, 7, padding=3)
        self.squeeze = nn.Linear(6, 6)
        self.scale = nn.Parameter(torch.ones(1, 6, 1, 1))
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Conv2d(6, 10, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.small(x), F.avg_pool2d(self.large(x), 3, 1, 1)], dim=1) * self.scale
        weights = torch.sigmoid(self.squeeze(self.pool(x).flatten(1)))
        return self.head(self.pool(x * weights[:, :, None, None]))  # (N, 10, 1, 1)


class Loop(nn.Module):
    def __init__(self, width: int = 4, depth: int = 3) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Conv2d(1 if i == 0 else width, width, 3) for i in range(depth))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(depth))
        self.depthwise = nn.Conv2d(width, width, 3, groups=width)
        self.head = nn.Conv2d(width, 10, 20)

    def forward(self, x: Tensor) -> Tensor:
        for block, norm in zip(self.blocks, self.norms, strict=True):
            x = norm(F.leaky_relu(block(x)))
        return self.head(self.depthwise(x)).view(-1, 10)


class Lazy(nn.Sequential):
    def __init__(self) -> None:
        layers = nn.LazyConv2d(4, 5, stride=2), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10)
        super().__init__(*layers)


class Rows(nn.Module):
    """An LSTM that reads an image row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(28, 8, batch_first=True), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.lstm(x.squeeze(1))
        return self.head(states[:, -1])


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 8, 7, stride=7)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        return self.head(self.attention(tokens, tokens, tokens)[0].mean(1))


class OldWeightNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch calls it deprecated; people's files have it
            self.conv = nn.utils.weight_norm(nn.Conv2d(1, 4, 3))
        self.head = nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.adaptive_avg_pool2d(F.relu(self.conv(x)), 1).flatten(1))


class NewWeightNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 4, 3))
        self.norm, self.head = nn.BatchNorm2d(4), nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.norm(self.conv(x))).amax((2, 3)))


class OwnForward(nn.Sequential):
    """A Sequential that does more than run its layers."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(1, 10, 3), nn.BatchNorm2d(10), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).mean((2, 3)) - super().forward(x.flip(3)).amax((2, 3))


class NoAffine(nn.Sequential):
    def __init__(self) -> None:
        before, behind = nn.BatchNorm2d(4, affine=False), nn.BatchNorm2d(4, affine=False)
        super().__init__(nn.Conv2d(1, 4, 3), before, nn.ReLU(), behind, nn.Conv2d(4, 10, 1), nn.AvgPool2d(26))


class NoStatistics(nn.Sequential):
    def __init__(self) -> None:
        norm = nn.BatchNorm2d(4, track_running_stats=False)
        super().__init__(nn.Conv2d(1, 4, 3), norm, nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4, 10))


class Branching(nn.Module):
    """Which way it goes depends on what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 4, 3), nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = x.relu() if x.mean() > 0 else x.abs()
        return self.head(x.mean((2, 3)))


class Frozen(nn.Module):
    """A large part that is not trained."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(1, 1000, 5, stride=4).requires_grad_(False)
        self.head = nn.Linear(1000, 4)
        self.last = nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.head(self.features(x).relu().mean((2, 3))))


class Oblong(nn.Module):
    """Windows that are not square, as in factorised convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.high = nn.Conv2d(1, 4, (1, 7)), nn.Conv2d(4, 4, (3, 1), dilation=2)
        self.norm, self.head = nn.GroupNorm(2, 4), nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.hardswish(self.norm(self.high(self.wide(x))))
        return self.head(x.amax(dim=(-2, -1)))


class Softmax(nn.Sequential):
    """A port from Keras, which wants probabilities."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(1, 4, 5, stride=3), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10), nn.Softmax(dim=1))


class Returns(nn.Module):
    """What is no answer to the question."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what
        channels = 3 if what == "colour" else 1
        self.conv = nn.Conv2d(channels, 11 if what == "eleven" else 10, 5, dtype=torch.float64 if what == "double" else None)
        self.large = nn.Linear(10 * 28 * 28, 10)

    def forward(self, x: Tensor) -> object:
        if self.what == "large":
            return self.large(self.conv(x).flatten(1))
        logits = self.conv(x).mean((2, 3))
        others = {
            "tuple": (logits, logits),
            "dict": {"logits": logits},
            "mixed": logits.reshape(-1, 5) if self.what == "mixed" else 0,
            "integers": logits.long(),
            "maps": self.conv(x),
        }
        return others.get(self.what, logits)


GOOD = [
    *(Functional, Residual, Branches, Loop, Lazy, Rows, Attention, OldWeightNorm, NewWeightNorm),
    *(OwnForward, NoAffine, NoStatistics, Branching, Frozen, Oblong),
]

"""Digits drawn by the project itself, in MNIST's format: the same job runs where MNIST cannot be had.

Each digit is a set of strokes in a unit square (x to the right, y down). An image takes a jittered, slanted, turned, scaled
and shifted copy of its digit and paints every pixel by its distance to the nearest stroke. They are easier than MNIST; the
accuracy gate is not judged on them.
"""

import functools
import itertools
import math

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

SIDE = 28  # pixels
CHUNK = 100  # images painted at a time: what fits the cache; 7 times faster than 1,000


def _arc(
    cx: float, cy: float, rx: float, ry: float, start_deg: float, end_deg: float, num: int = 9
) -> list[tuple[float, float]]:
    """Points on an ellipse around (cx, cy); 0° points right, 90° down."""
    angles = [math.radians(start_deg + (end_deg - start_deg) * i / (num - 1)) for i in range(num)]
    return [(cx + rx * math.cos(a), cy + ry * math.sin(a)) for a in angles]


STROKES: dict[int, list[list[tuple[float, float]]]] = {
    0: [_arc(0.5, 0.5, 0.30, 0.45, 0, 360, num=13)],
    1: [[(0.35, 0.22), (0.55, 0.05), (0.55, 0.95)]],
    2: [[*_arc(0.5, 0.30, 0.28, 0.25, -170, 30), (0.22, 0.95), (0.80, 0.95)]],
    3: [_arc(0.48, 0.28, 0.26, 0.23, -150, 90), _arc(0.48, 0.73, 0.29, 0.22, -90, 150)],
    4: [[(0.62, 0.95), (0.62, 0.05), (0.18, 0.65), (0.84, 0.65)]],
    5: [[(0.76, 0.05), (0.30, 0.05), (0.26, 0.45), *_arc(0.48, 0.67, 0.28, 0.27, -120, 140)]],
    6: [[(0.68, 0.05), (0.40, 0.25), (0.24, 0.60)], _arc(0.50, 0.70, 0.26, 0.25, -180, 180, num=11)],
    7: [[(0.20, 0.06), (0.80, 0.06), (0.42, 0.95)]],
    8: [_arc(0.5, 0.28, 0.22, 0.22, 90, 450, num=11), _arc(0.5, 0.73, 0.27, 0.23, -90, 270, num=11)],
    9: [_arc(0.5, 0.30, 0.26, 0.25, 0, 360, num=11), [(0.76, 0.30), (0.72, 0.65), (0.52, 0.95)]],
}


def _segments() -> tuple[Tensor, Tensor]:
    """All digits as line segments `(10, S, 2 ends, 2)`, short ones padded by a mask `(10, S)` that is True for real ones."""
    drawn = [torch.tensor([pair for stroke in STROKES[d] for pair in itertools.pairwise(stroke)]) for d in range(10)]
    real = pad_sequence([torch.ones(len(pairs), dtype=torch.bool) for pairs in drawn], batch_first=True)
    return pad_sequence(drawn, batch_first=True), real


def _paint(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Draws one image per label: uint8 `(N, 28, 28)`."""
    n = len(labels)
    ends, real = _segments()
    ends, real = ends[labels] - 0.5, real[labels]  # (N, S, 2, 2) about the centre, (N, S)

    def uniform(low: float, high: float, *size: int) -> Tensor:
        return torch.rand(n, *size, generator=generator) * (high - low) + low

    # A smooth bend moves points by where they lie, so that strokes which meet still meet.
    phase, bend = uniform(0, 2 * math.pi, 1, 1, 2), uniform(-0.07, 0.07, 1, 1, 2)
    ends = ends + bend * torch.sin(2 * math.pi * ends.flip(-1) + phase)
    angle, slant = torch.deg2rad(uniform(-12, 12)), uniform(-0.25, 0.25)
    width, height = uniform(12, 21), uniform(17, 21)  # pixels
    cos, sin = torch.cos(angle), torch.sin(angle)
    right = torch.stack([width * cos, height * (sin + slant * cos)], dim=-1)
    down = torch.stack([-width * sin, height * (cos - slant * sin)], dim=-1)
    matrix = torch.stack([right, down], dim=-2)  # (N, 2, 2)
    ends = torch.einsum("nij,nskj->nski", matrix, ends) + SIDE / 2 + uniform(-1.5, 1.5, 1, 1, 2)

    centres = torch.arange(SIDE) + 0.5
    pixels = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), dim=-1).reshape(1, 1, SIDE * SIDE, 2)
    start, along = ends[:, :, :1], ends[:, :, 1:] - ends[:, :, :1]  # (N, S, 1, 2) each
    # Distance of a pixel to a segment: to the nearest of its points, start + t · along with t in [0, 1].
    t = ((pixels - start) * along).sum(-1) / along.square().sum(-1).clamp_min(1e-9)
    distance = (pixels - start - t.clamp(0, 1)[..., None] * along).norm(dim=-1)  # (N, S, 784)
    distance = distance.masked_fill(~real[:, :, None], math.inf).amin(dim=1)  # (N, 784)
    ink = (uniform(0.9, 1.9, 1) + 0.5 - distance).clamp(0, 1) * uniform(180, 255, 1)
    noise = uniform(0, 12, SIDE * SIDE) * (ink > 0)
    return (ink - noise).clamp(0, 255).round().to(torch.uint8).reshape(n, SIDE, SIDE)


@functools.lru_cache(maxsize=2)  # seconds of work, once for all jobs of a sweep that follow one another
def draw(num_images: int, seed: int) -> tuple[Tensor, Tensor]:
    """Digits as uint8 images `(N, 28, 28)` and int64 labels `(N,)`, the ten classes in equal parts and in random order."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(num_images)[torch.randperm(num_images, generator=generator)] % 10
    return torch.cat([_paint(chunk, generator) for chunk in labels.split(CHUNK)]), labels

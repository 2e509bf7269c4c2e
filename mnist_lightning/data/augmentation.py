"""Augmentation of whole batches on their own device, every image with its own random parameters.

Each class maps float images `(N, 1, H, W)` in [0, 255] to the same shape, range and device, and is applied to training
batches only, before normalisation. Angles are in degrees; positive rotations turn counter-clockwise, as in torchvision.
torchvision's own transforms are made to do the same by `of_batches`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mnist_lightning.config.errors import ConfigError


def _uniform(low: float, high: float, like: Tensor) -> Tensor:
    """One number per image, in [low, high): `(N,)` on the images' device."""
    return torch.empty(len(like), device=like.device).uniform_(low, high)


@functools.cache
def _half_sides(height: int, width: int, device: torch.device) -> Tensor:
    """Half the width and half the height in pixels, `(2,)`; kept, since a constant's way to a GPU waits for it."""
    return torch.tensor([width / 2, height / 2], device=device)


@functools.cache
def _pixel_centres(height: int, width: int, device: torch.device) -> Tensor:
    """Homogeneous coordinates `(3, H · W)` of the pixels' centres: x and y in [-1, 1], and 1."""
    identity = torch.eye(2, 3, device=device)[None]
    grid = F.affine_grid(identity, [1, 1, height, width], align_corners=False).view(-1, 2)
    return torch.cat([grid, torch.ones_like(grid[:, :1])], dim=1).T.contiguous()


def affine(
    images: Tensor,
    angle_deg: Tensor,
    shift_px: Tensor,
    scale: Tensor,
    shear_deg: Tensor,
    *,
    displacement_px: Tensor | None = None,
    fill: float = 0.0,
    interpolation: str = "bilinear",
) -> Tensor:
    """Applies to each image its own affine map about the image centre: shear, then scale and rotation, then translation.

    Angle and shear (parallel to the x axis) are `(N,)`, scale `(N,)` above 0, shift `(N, 2)`, right and down. On top of the map
    each pixel looks for its value as far from its place as `displacement_px` says, `(N, 2, H, W)`, right and down.

    Source: the map of torchvision's `RandomAffine` (transforms.functional.affine), whose rotation angle is clockwise.
    """
    height, width = images.shape[-2:]
    angle, shear = torch.deg2rad(angle_deg), torch.deg2rad(shear_deg)
    cos, sin, slope = torch.cos(angle), torch.sin(angle), torch.tan(shear)
    # The y axis points down, so a counter-clockwise turn is R = [[cos, sin], [-sin, cos]]; the shear is S = [[1, -slope],
    # [0, 1]]. grid_sample asks where each output pixel comes from, (scale · R · S)⁻¹ = S⁻¹ · Rᵀ / scale, applied to the
    # output position less the shift.
    rows = torch.stack([cos + slope * sin, slope * cos - sin], dim=-1), torch.stack([sin, cos], dim=-1)
    inverse = torch.stack(rows, dim=-2) / scale[:, None, None]  # (N, 2, 2)
    offset = -(inverse @ shift_px[:, :, None])  # (N, 2, 1), in pixels
    # affine_grid works in units of half a side: x in [-1, 1] spans the width, y the height.
    half = _half_sides(height, width, images.device)
    theta = torch.cat([inverse * half[None, None, :] / half[None, :, None], offset / half[None, :, None]], dim=-1)
    # affine_grid's own product, ordered so that its long side is contiguous: 0.3 ms a batch of 128 less.
    grid = (theta @ _pixel_centres(height, width, images.device)).unflatten(-1, (height, width))
    if displacement_px is not None:
        grid = grid + displacement_px / half[:, None, None]
    # Sampling what exceeds the fill lets the zeros outside the image stand for the fill.
    return F.grid_sample(images - fill, grid.permute(0, 2, 3, 1), mode=interpolation, align_corners=False) + fill


class Affine:
    """Random rotation, translation, scale and shear, each uniform in its range.

    Annealed, all ranges shrink, epoch by epoch and linearly, to nothing in the last epoch, so that a network too small for all
    distortions ends on images as they are.
    """

    # No dataclasses here: Hydra would take them for configurations.
    def __init__(
        self,
        degrees: float,  # ± degrees of rotation
        translate: float = 0.0,  # ± along each axis, a fraction of the side
        scale: Sequence[float] = (1.0, 1.0),  # lowest and highest factor
        shear: float = 0.0,  # ± degrees, parallel to the x axis
        fill: float = 0.0,  # grey value outside the image, in [0, 255]
        interpolation: str = "bilinear",  # or "nearest"
        anneal_from: float = 1.0,  # share of the run after which the ranges shrink; 1: they do not
    ) -> None:
        self.degrees = degrees
        self.translate = translate
        self.scale = scale
        self.shear = shear
        self.fill = fill
        self.interpolation = interpolation
        self.anneal_from = anneal_from
        self.strength = torch.ones(())  # a tensor, changed in place: a CUDA graph records a number for ever

    def begin_epoch(self, epoch: int, max_epochs: int) -> None:
        """Sets the strength of an epoch, counted from 0: the share of all ranges that is drawn from."""
        progress = epoch / max(1, max_epochs - 1)
        after = (progress - self.anneal_from) / (1 - self.anneal_from) if progress > self.anneal_from else 0.0
        self.strength.fill_(1 - after)

    def __call__(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        self.strength = strength = self.strength.to(images.device)
        angle = _uniform(-self.degrees, self.degrees, images)
        right_and_down = [_uniform(-self.translate * side, self.translate * side, images) for side in (width, height)]
        scale = _uniform(self.scale[0], self.scale[1], images)
        return affine(
            images,
            angle_deg=strength * angle,
            shift_px=strength * torch.stack(right_and_down, dim=-1),
            scale=torch.lerp(torch.ones_like(scale), scale, strength),
            shear_deg=strength * _uniform(-self.shear, self.shear, images),
            displacement_px=self._displacement(images),
            fill=self.fill,
            interpolation=self.interpolation,
        )

    def _displacement(self, images: Tensor) -> Tensor | None:
        """What an affine map lacks, if anything: `(N, 2, H, W)` in pixels."""
        return None


class Elastic(Affine):
    """An affine map with a smooth random displacement of every pixel: strokes bend, each in its own way.

    Displacements are drawn at the knots of a coarse grid and interpolated bicubically (Ronneberger et al., 2015, "U-Net",
    section 3.1; the idea is Simard et al.'s, 2003). `amplitude` is the standard deviation of the displacement of a knot along
    each axis, in pixels; there are `knots` along each side of the grid, from edge to edge.
    """

    def __init__(self, amplitude: float, knots: int = 6, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.amplitude = amplitude
        self.knots = knots

    def _displacement(self, images: Tensor) -> Tensor:
        at_knots = torch.randn(len(images), 2, self.knots, self.knots, device=images.device)
        field = F.interpolate(at_knots, size=images.shape[-2:], mode="bicubic", align_corners=True)
        return self.strength * self.amplitude * field


class Rotation(Affine):
    """Random rotation about the image centre."""

    def __init__(self, degrees: float, fill: float = 0.0, interpolation: str = "bilinear") -> None:
        super().__init__(degrees, fill=fill, interpolation=interpolation)


def adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Multiplies each image by its factor `(N,)`, cut to whole grey values in [0, 255] as PIL does."""
    return (images * factor[:, None, None, None]).clamp_(0, 255).floor_()


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Blends each image with its own mean grey by its factor `(N,)`, cut to whole grey values as PIL does."""
    # PIL's ImageEnhance.Contrast rounds the mean to a whole grey value first.
    mean = (images.mean(dim=(1, 2, 3), keepdim=True) + 0.5).floor_()
    return (mean + factor[:, None, None, None] * (images - mean)).clamp_(0, 255).floor_()


class Published:
    """As in experiment 3: brightness, then contrast, by factors in 1 ± these; then rotation, nearest neighbour, black fill."""

    def __init__(self, brightness: float = 0.4, contrast: float = 0.4, degrees: float = 5.0) -> None:
        self.brightness = brightness
        self.contrast = contrast
        self.rotation = Rotation(degrees, interpolation="nearest")

    def __call__(self, images: Tensor) -> Tensor:
        images = adjust_brightness(images, _uniform(1 - self.brightness, 1 + self.brightness, images))
        images = adjust_contrast(images, _uniform(1 - self.contrast, 1 + self.contrast, images))
        return self.rotation(images)


DONE_ALREADY = {
    "Normalize": "every image is normalised by data.mean and data.std",
    "ToTensor": "every image is a tensor in [0, 1] already",
}


class PerImage:
    """A transform of torchvision's on each image by itself, since it would draw once for a batch; slower by far.

    It gets what it expects, a float image `(1, H, W)` in [0, 1]; what exceeds that range is cut.
    """

    def __init__(self, transform: Callable[[Tensor], Tensor]) -> None:
        for part in (transform, *getattr(transform, "transforms", ())):
            if why := DONE_ALREADY.get(name := type(part).__name__):
                raise ConfigError(f"augmentation: {why}; leave {name} out")
        self.transform = transform

    def __call__(self, images: Tensor) -> Tensor:
        return torch.stack([self.transform(image) for image in images / 255]).clamp(0, 1) * 255


class LabelMix:
    """torchvision's MixUp or CutMix: mixes the images of a batch, and their labels to the shares of each class."""

    def __init__(self, transform: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
        self.transform = transform

    def with_labels(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The mixed images, and the share of each class in each, `(N, classes)`."""
        mixed, shares = self.transform(images, labels)
        return mixed, shares

    def __call__(self, images: Tensor) -> Tensor:
        return self.with_labels(images, torch.zeros(len(images), dtype=torch.long, device=images.device))[0]


def of_batches(augmentation: Callable[..., Any]) -> Callable[[Tensor], Tensor]:
    """An augmentation as the data module applies it: this module's and a user's own as it is, torchvision's on each image.

    A class that derives from one of torchvision's counts as torchvision's.
    """
    bases = {(base.__module__.partition(".")[0], base.__name__) for base in type(augmentation).__mro__}
    if bases & {("torchvision", "MixUp"), ("torchvision", "CutMix")}:
        return LabelMix(augmentation)
    return PerImage(augmentation) if any(package == "torchvision" for package, _ in bases) else augmentation

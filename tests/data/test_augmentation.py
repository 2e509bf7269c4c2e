"""Batched augmentation against torchvision and PIL, image by image, and the random parameters it draws."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms import functional as TF

from mnist_lightning.data.augmentation import (
    Affine,
    Elastic,
    LabelMix,
    Published,
    Rotation,
    adjust_brightness,
    adjust_contrast,
    affine,
    of_batches,
)
from mnist_lightning.data.datamodule import synthetic

N = 64
MODES = {"bilinear": InterpolationMode.BILINEAR, "nearest": InterpolationMode.NEAREST}


@pytest.fixture(scope="module")
def images() -> Tensor:
    """`(N, 1, 28, 28)` in [0, 255]."""
    return synthetic.draw(N, seed=3)[0][:, None].float()


def uniform(low: float, high: float, *size: int) -> Tensor:
    return torch.rand(N, *size, generator=torch.Generator().manual_seed(N)) * (high - low) + low


def pil(image: Tensor) -> Image.Image:
    return Image.fromarray(image[0].numpy().astype(np.uint8))


@pytest.mark.parametrize("interpolation", MODES)
def test_affine_is_torchvisions(images: Tensor, interpolation: str) -> None:
    angles, scales, shears = uniform(-45, 45), uniform(0.8, 1.2), uniform(-20, 20)
    shifts = uniform(-4, 4, 2).round()  # torchvision takes whole pixels
    mapped = affine(images, angles, shifts, scales, shears, fill=20.0, interpolation=interpolation)
    for i, result in enumerate(mapped):
        expected = TF.affine(
            images[i],
            angle=-angles[i].item(),  # clockwise there
            translate=shifts[i].tolist(),
            scale=scales[i].item(),
            shear=[shears[i].item(), 0.0],
            interpolation=MODES[interpolation],
            fill=[20.0],
        )
        torch.testing.assert_close(result, expected, atol=0.01, rtol=0)


def test_images_need_not_be_square() -> None:
    image = torch.rand(1, 1, 20, 30) * 255
    turned = affine(image, torch.tensor([25.0]), torch.zeros(1, 2), torch.ones(1), torch.zeros(1))
    expected = TF.rotate(image[0], 25.0, interpolation=InterpolationMode.BILINEAR)
    torch.testing.assert_close(turned[0], expected, atol=0.01, rtol=0)


def test_brightness_and_contrast_are_pils_pixel_by_pixel(images: Tensor) -> None:
    factors = uniform(0.6, 1.4)
    for adjust, enhancer in ((adjust_brightness, ImageEnhance.Brightness), (adjust_contrast, ImageEnhance.Contrast)):
        for image, factor, result in zip(images, factors.tolist(), adjust(images, factors), strict=True):
            assert np.array_equal(result[0].numpy(), np.asarray(enhancer(pil(image)).enhance(factor)))


def test_published_rotation_is_pils_but_for_ties(images: Tensor) -> None:
    angles = uniform(-5, 5)
    zeros = torch.zeros(N)
    rotated = affine(images, angles, torch.zeros(N, 2), torch.ones(N), zeros, interpolation="nearest")
    same = [
        np.mean(np.asarray(pil(image).rotate(angle)) == result[0].numpy())
        for image, angle, result in zip(images, angles.tolist(), rotated, strict=True)
    ]
    assert np.mean(same) > 0.999  # where a sample falls on the edge of two pixels, rounding decides


@pytest.mark.parametrize(
    "augmentation",
    [Rotation(30), Affine(10, translate=0.1, scale=(0.8, 1.2), shear=10), Elastic(1.0, degrees=0), Published()],
    ids=lambda a: type(a).__name__,
)
def test_every_image_draws_its_own_parameters(images: Tensor, augmentation: Affine | Published) -> None:
    torch.manual_seed(0)
    same = images[:1].expand(16, -1, -1, -1)
    out = augmentation(same)
    assert out.shape == same.shape
    assert out.dtype == torch.float32
    assert out.min() >= 0
    assert out.max() <= 255.01
    assert len({tuple(image.flatten().tolist()) for image in out}) == 16


def test_rotations_are_uniform_within_the_degrees(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(
        "mnist_lightning.data.augmentation.affine", lambda images, angle_deg, **_: drawn.append(angle_deg) or images
    )
    torch.manual_seed(0)
    Rotation(10)(torch.zeros(20_000, 1, 1, 1))
    [angles] = drawn
    assert angles.abs().max() <= 10
    # Mean 0 and standard deviation 10/√3 of the uniform distribution, within 4 standard errors.
    assert abs(angles.mean()) < 4 * 5.77 / 20_000**0.5
    assert angles.std() == pytest.approx(5.7735, abs=0.1)


def test_a_constant_displacement_is_a_translation(images: Tensor) -> None:
    zeros, ones = torch.zeros(N), torch.ones(N)
    displacement = torch.tensor([2.0, -3.0])[None, :, None, None].expand(N, 2, 28, 28)
    displaced = affine(images, zeros, torch.zeros(N, 2), ones, zeros, displacement_px=displacement)
    shifted = affine(images, zeros, torch.tensor([-2.0, 3.0]).expand(N, 2), ones, zeros)  # what lies right comes left
    torch.testing.assert_close(displaced, shifted, atol=0.01, rtol=0)


def test_displacements_have_their_amplitude_at_the_knots_and_are_smooth(images: Tensor) -> None:
    torch.manual_seed(0)
    field = Elastic(0.7, knots=5, degrees=0)._displacement(torch.zeros(4000, 1, 29, 29))
    assert field.shape == (4000, 2, 29, 29)
    knots = field[:, :, ::7, ::7]  # every seventh pixel of 29 is one of 5 knots
    assert knots.std() == pytest.approx(0.7, rel=0.02)
    assert abs(knots.mean()) < 0.01
    neighbours = torch.stack([field[:, 0, 0, 0], field[:, 0, 0, 1], field[:, 0, 0, 7], field[:, 1, 0, 0]])
    correlation = torch.corrcoef(neighbours)[0]
    assert correlation[1] > 0.95  # the next pixel
    assert correlation[2:].abs().max() < 0.05  # the next knot, and the other axis


def test_annealing_shrinks_the_ranges_to_nothing(images: Tensor) -> None:
    annealed = Elastic(2.0, degrees=10, translate=0.1, scale=(0.8, 1.2), shear=10, anneal_from=0.5)
    strengths = []
    for epoch in range(5):
        annealed.begin_epoch(epoch, max_epochs=5)
        strengths.append(annealed.strength.item())
    assert strengths == [1.0, 1.0, 1.0, 0.5, 0.0]
    torch.testing.assert_close(annealed(images), images, atol=0.01, rtol=0)  # in the last epoch


def test_ranges_are_a_share_of_themselves(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[dict[str, Tensor]] = []
    monkeypatch.setattr("mnist_lightning.data.augmentation.affine", lambda images, **given: drawn.append(given) or images)
    annealed = Affine(10, translate=0.1, scale=(0.8, 1.2), shear=10, anneal_from=0.0)
    for epoch in (0, 3):  # of 5: strengths 1 and 0.25
        torch.manual_seed(0)
        annealed.begin_epoch(epoch, max_epochs=5)
        annealed(images)
    full, quarter = drawn
    for name in ("angle_deg", "shift_px", "shear_deg"):
        torch.testing.assert_close(quarter[name], 0.25 * full[name])
    torch.testing.assert_close(quarter["scale"], 1 + 0.25 * (full["scale"] - 1))
    assert full["scale"].std() > 0.05


@pytest.mark.parametrize(("anneal_from", "max_epochs"), [(1.0, 5), (0.0, 1), (0.5, 1)])
def test_without_annealing_the_strength_stays(anneal_from: float, max_epochs: int) -> None:
    augmentation = Affine(10, anneal_from=anneal_from)
    for epoch in range(max_epochs):
        augmentation.begin_epoch(epoch, max_epochs)
        assert augmentation.strength == 1


def test_the_input_is_left_as_it_was(images: Tensor) -> None:
    before = images.clone()
    Published()(images)
    Affine(10, fill=10)(images)
    assert torch.equal(images, before)


# --- of others --------------------------------------------------------------------------------------------------------------

JITTER = v2.ColorJitter(brightness=(2.0, 2.0))
OTHERS = {
    "rotation": v2.RandomRotation(30),
    "affine": v2.RandomAffine(10, translate=(0.1, 0.1), scale=(0.8, 1.2)),
    "erasing": v2.RandomErasing(p=1.0),
    "jitter": v2.ColorJitter(brightness=0.4, contrast=0.4),
    "elastic": v2.ElasticTransform(),
    "perspective": v2.RandomPerspective(p=1.0),
    "several": v2.Compose([v2.RandomRotation(10), v2.ColorJitter(brightness=0.4)]),
    "the older ones": transforms.Compose([transforms.RandomRotation(10), transforms.RandomErasing(p=1.0)]),
}


@pytest.mark.parametrize("name", OTHERS)
def test_torchvisions_draw_for_each_image_in_the_range_of_the_project(images: Tensor, name: str) -> None:
    augmentation = of_batches(OTHERS[name])
    same = images[:1].expand(8, -1, -1, -1)
    drawn = []
    for _ in range(2):
        torch.manual_seed(0)
        drawn.append(augmentation(same))
    assert torch.equal(*drawn)
    assert drawn[0].shape == same.shape
    assert (drawn[0].min() >= 0, drawn[0].max() <= 255) == (True, True)
    assert drawn[0].max() > 100  # and not in [0, 1]
    assert len({tuple(image.flatten().tolist()) for image in drawn[0]}) >= 7  # two close angles may take the same pixels


def test_torchvisions_see_images_as_they_expect_them(images: Tensor) -> None:
    """Twice the brightness, cut at white: at 255, and not at 1."""
    torch.testing.assert_close(of_batches(JITTER)(images), (2 * images).clamp(max=255), atol=1e-3, rtol=0)


class Inverted(v2.Transform):
    """A user's own, derived from torchvision's: takes an image in [0, 1], too."""

    def transform(self, image: Tensor, params: dict[str, Any]) -> Tensor:
        assert image.shape == (1, 28, 28)
        return 1 - image


def test_a_class_counts_as_torchvisions_if_it_derives_from_it(images: Tensor) -> None:
    torch.testing.assert_close(of_batches(Inverted())(images), 255 - images, atol=1e-3, rtol=0)
    own = torch.nn.Identity()
    assert of_batches(own) is own
    rotation = Rotation(10)
    assert of_batches(rotation) is rotation


@pytest.mark.parametrize("name", ["MixUp", "CutMix"])
def test_mixed_images_have_the_shares_of_their_labels(images: Tensor, name: str) -> None:
    mix = of_batches(getattr(v2, name)(num_classes=10))
    assert isinstance(mix, LabelMix)
    torch.manual_seed(1)
    # Black images of class 0 and white ones of class 1, in turns: an image is as white as it is of class 1.
    labels = torch.arange(6) % 2
    mixed, shares = mix.with_labels(255.0 * labels[:, None, None, None].expand(6, 1, 28, 28), labels)
    assert shares.shape == (6, 10)
    torch.testing.assert_close(mixed.mean((1, 2, 3)) / 255, shares[:, 1], atol=1e-5, rtol=0)
    torch.testing.assert_close(shares.sum(1), torch.ones(6))
    assert 0 < shares[0, 1] < 1
    assert mix(images).shape == images.shape  # for the picture of it

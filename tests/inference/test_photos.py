"""Pictures of any kind become MNIST images; what is no picture is refused by name."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageOps
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from mnist_lightning.data.datamodule import synthetic
from mnist_lightning.inference.photos import PictureError, fit, keep_digit, prepare

DIGIT = synthetic.draw(20, seed=5)[0][synthetic.draw(20, seed=5)[1] == 2][0]


def grey(image: Tensor = DIGIT, side: int = 200) -> Image.Image:
    """A drawn digit, enlarged, light on black."""
    return Image.fromarray(image.numpy()).resize((side, side), Image.Resampling.BICUBIC)


def dark_on_light() -> Image.Image:
    return ImageOps.invert(grey())


def off_centre() -> Image.Image:
    return ImageOps.expand(dark_on_light(), border=(180, 20, 5, 90), fill=255)


def in_uneven_light() -> Image.Image:
    """Paper that is twice as bright at one end, with the noise of a camera."""
    paper = pil_to_tensor(off_centre())[0] / 255 * 0.8 + 0.2
    light = torch.linspace(110, 230, paper.shape[1]) + torch.linspace(0, 20, paper.shape[0])[:, None]
    noise = torch.randn(paper.shape, generator=torch.Generator().manual_seed(0))
    return Image.fromarray((paper * light + 3 * noise).clamp(0, 255).byte().numpy())


def in_front_of_a_table() -> Image.Image:
    photo = ImageOps.expand(in_uneven_light(), border=(0, 0, 0, 40), fill=25)
    ImageDraw.Draw(photo).ellipse((30, 30, 33, 33), fill=40)  # and with a speck
    return photo


def on_nothing(colour: tuple[int, int, int], behind: int) -> Image.Image:
    picture = Image.new("RGBA", (200, 200), (behind, behind, behind, 0))
    picture.paste((*colour, 255), mask=grey())
    return picture


PICTURES: dict[str, Callable[[], Image.Image]] = {
    "as it is": lambda: Image.fromarray(DIGIT.numpy()),
    "light on black": grey,
    "dark on light": dark_on_light,
    "off centre": off_centre,
    "in uneven light": in_uneven_light,
    "in front of a table": in_front_of_a_table,
    "dark on nothing": lambda: on_nothing((20, 0, 60), behind=0),
    "light on nothing": lambda: on_nothing((255, 250, 200), behind=255),
    "with a palette": lambda: dark_on_light().convert("P"),
    "with 16 bits": lambda: Image.fromarray((pil_to_tensor(grey())[0].int() * 200 + 3000).to(torch.uint16).numpy()),
    "cropped": lambda: dark_on_light().crop(grey().getbbox()),
}


def likeness(image: Tensor, other: Tensor) -> float:
    """Correlation of the grey values, shifted by up to a pixel, by which a centre of mass may be rounded."""
    shifted = [image.roll((down, right), (0, 1)).flatten().float() for down in (-1, 0, 1) for right in (-1, 0, 1)]
    return max(float(torch.corrcoef(torch.stack([one, other.flatten().float()]))[0, 1]) for one in shifted)


@pytest.mark.parametrize("kind", PICTURES)
def test_every_kind_of_picture_becomes_the_same_image(tmp_path: Path, kind: str) -> None:
    PICTURES[kind]().save(tmp_path / "a.png")
    image = prepare(tmp_path / "a.png")
    assert (image.shape, image.dtype) == ((28, 28), torch.uint8)
    expected = fit(np.asarray(grey()) / 255)
    assert likeness(image, expected) > 0.88
    assert likeness(image, expected.rot90()) < 0.6  # the measure tells another picture


@pytest.mark.parametrize("ending", ["jpg", "webp", "bmp", "gif", "tif"])
def test_formats(tmp_path: Path, ending: str) -> None:
    dark_on_light().convert("RGB").save(tmp_path / f"a.{ending}")
    assert likeness(prepare(tmp_path / f"a.{ending}"), fit(np.asarray(grey()) / 255)) > 0.88


def test_the_orientation_that_the_camera_noted_counts(tmp_path: Path) -> None:
    turned = dark_on_light().rotate(90, expand=True)
    turned.getexif()[0x0112] = 6  # "rotate by 90° clockwise to view"
    turned.save(tmp_path / "a.jpg", exif=turned.getexif())
    assert likeness(prepare(tmp_path / "a.jpg"), fit(np.asarray(grey()) / 255)) > 0.88


@pytest.mark.parametrize(("height", "width"), [(100, 30), (30, 100), (7, 7)])
def test_the_box_is_mnists(height: int, width: int) -> None:
    """20 pixels on the longer side, the ratio kept, the centre of mass on pixel 14."""
    ink = np.zeros((150, 140))
    ink[11 : 11 + height, 33 : 33 + width] = 1
    image = fit(ink)
    rows, columns = (image.amax(dim).nonzero().squeeze(1) for dim in (1, 0))
    longest = max(height, width)
    assert (len(rows), len(columns)) == (round(20 * height / longest), round(20 * width / longest))
    assert all(abs(float(where.double().mean()) - 14) <= 0.5 for where in (rows, columns))
    assert image.max() == 255


@pytest.mark.mnist
def test_mnist_images_are_already_prepared(real_mnist: list[str]) -> None:
    """Its own images hardly change: their box is 20 pixels and their centre of mass lies on pixel 14."""
    from mnist_lightning.config.compose import compose_config
    from mnist_lightning.data.mnist_files import load

    data = compose_config(*real_mnist).data
    for image in load(data.root, [], [])["test"][0][:50]:
        assert likeness(fit(image.numpy() / 255), image) > 0.99


def test_what_reaches_in_from_outside_counts_where_there_is_nothing_else() -> None:
    ink = np.zeros((100, 100))
    ink[:, 40:50] = 1
    assert keep_digit(ink).sum() == 1000
    ink[20:60, 70:80] = 1
    assert keep_digit(ink)[:, 30:60].sum() == 0


def saved(picture: Image.Image, path: Path) -> bytes:
    picture.save(path)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (lambda path: b"a shopping list", "is no picture; PNG, JPEG, WEBP, GIF, BMP, TIFF, PPM are read"),
        (lambda path: b"", "is no picture"),
        (lambda path: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n", "is no picture"),
        (lambda path: saved(dark_on_light(), path)[:3000], "cannot be read: "),
        (lambda path: saved(dark_on_light(), path)[:40], "(cannot be read|is no picture)"),
        (lambda path: saved(Image.new("L", (1, 1)), path), "nothing is drawn in it"),
        (lambda path: saved(Image.new("L", (300, 200), 255), path), "nothing is drawn in it"),
        (lambda path: saved(Image.new("RGBA", (300, 200)), path), "nothing is drawn in it"),
        (lambda path: saved(Image.effect_noise((200, 200), 40), path), "nothing is drawn in it"),
        (lambda path: saved(Image.linear_gradient("L"), path), "nothing is drawn in it"),
    ],
)
def test_what_is_no_picture_of_a_digit_is_refused(tmp_path: Path, contents: Callable[[Path], bytes], message: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(contents(path))
    with pytest.raises(PictureError, match=rf"^{path}: {message}") as refusal:
        prepare(path)
    assert "\n" not in str(refusal.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match=r"nothing\.png: cannot be read: No such file or directory$"):
        prepare(tmp_path / "nothing.png")

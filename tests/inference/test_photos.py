"""Pictures of any kind become MNIST images; what is no picture is refused by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageOps
from scipy import ndimage
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from mnist_lightning.data.datamodule import synthetic
from mnist_lightning.inference.photos import PHOTO_SIDE, SHEET_SIDE, fit, prepare, prepare_sheet
from mnist_lightning.inference.pictures import PictureError, from_array, read

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


def touching_its_frame() -> Image.Image:
    """The right line of its frame goes through the digit's edge."""
    paper = ImageOps.expand(dark_on_light(), border=30, fill=255)
    lines = ImageDraw.Draw(paper)
    right = 30 + grey().getbbox()[2]
    for line in ((right, 0, right + 2, 260), (0, 12, 260, 14), (6, 0, 6, 260)):
        lines.line(line, fill=40, width=5)
    return paper


def in_a_box() -> Image.Image:
    paper = ImageOps.expand(dark_on_light(), border=60, fill=255)
    ImageDraw.Draw(paper).rectangle((20, 20, 300, 300), outline=30, width=5)
    return paper


def beside_a_broken_line() -> Image.Image:
    """What is left of a pale line of a table."""
    paper = ImageOps.expand(dark_on_light(), border=150, fill=255)
    for top in (20, 170, 370):
        ImageDraw.Draw(paper).line((20, top, 22, top + 80), fill=60, width=6)
    return paper


def on_a_ruled_line() -> Image.Image:
    paper = ImageOps.expand(dark_on_light(), border=(60, 60, 60, 0), fill=255)
    ImageDraw.Draw(paper).line((0, 225, 320, 222), fill=30, width=4)
    return paper


def in_a_shadow() -> Image.Image:
    """Round, soft, and larger than the digit."""
    paper = pil_to_tensor(ImageOps.expand(dark_on_light(), border=(20, 20, 220, 220), fill=255))[0].float()
    y, x = torch.meshgrid(torch.linspace(0, 1, 440), torch.linspace(0, 1, 440), indexing="ij")
    return Image.fromarray((paper * (1 - 0.35 * torch.exp(-(((x - 0.75) ** 2 + (y - 0.75) ** 2) / 0.02)))).byte().numpy())


def coloured(ink: tuple[int, int, int], paper: tuple[int, int, int]) -> Image.Image:
    picture = Image.new("RGB", (200, 200), paper)
    picture.paste(ink, mask=grey())
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
    "touching its frame": touching_its_frame,
    "in a box": in_a_box,
    "beside a broken line": beside_a_broken_line,
    "on a ruled line": on_a_ruled_line,
    "in a shadow": in_a_shadow,
    "yellow on light blue": lambda: coloured((230, 220, 120), (190, 230, 255)),
    "lilac on white": lambda: coloured((240, 228, 255), (255, 255, 255)),
}


def prepared(path: Path) -> Tensor:
    """As an MNIST image; one digit is in it."""
    image, count = prepare(read(path, PHOTO_SIDE))
    assert count == 1
    return image


def likeness(image: Tensor, other: Tensor) -> float:
    """Correlation of the grey values, shifted by up to a pixel, by which a centre of mass may be rounded."""
    shifted = [image.roll((down, right), (0, 1)).flatten().float() for down in (-1, 0, 1) for right in (-1, 0, 1)]
    return max(float(torch.corrcoef(torch.stack([one, other.flatten().float()]))[0, 1]) for one in shifted)


@pytest.mark.parametrize("kind", PICTURES)
def test_every_kind_of_picture_becomes_the_same_image(tmp_path: Path, kind: str) -> None:
    PICTURES[kind]().save(tmp_path / "a.png")
    image = prepared(tmp_path / "a.png")
    assert (image.shape, image.dtype) == ((28, 28), torch.uint8)
    expected = fit(np.asarray(grey()) / 255)
    assert likeness(image, expected) > 0.88
    assert likeness(image, expected.rot90()) < 0.6  # the measure tells another picture


@pytest.mark.parametrize("ending", ["jpg", "webp", "bmp", "gif", "tif"])
def test_formats(tmp_path: Path, ending: str) -> None:
    dark_on_light().convert("RGB").save(tmp_path / f"a.{ending}")
    assert likeness(prepared(tmp_path / f"a.{ending}"), fit(np.asarray(grey()) / 255)) > 0.88


def test_the_orientation_that_the_camera_noted_counts(tmp_path: Path) -> None:
    turned = dark_on_light().rotate(90, expand=True)
    turned.getexif()[0x0112] = 6  # "rotate by 90° clockwise to view"
    turned.save(tmp_path / "a.jpg", exif=turned.getexif())
    assert likeness(prepared(tmp_path / "a.jpg"), fit(np.asarray(grey()) / 255)) > 0.88


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
        (lambda path: saved(Image.new("L", (1, 1)), path), "no digit found; nothing is drawn in it"),
        (lambda path: saved(Image.new("L", (300, 200), 255), path), "no digit found; nothing is drawn in it"),
        (lambda path: saved(Image.new("RGBA", (300, 200)), path), "no digit found; nothing is drawn in it"),
        (lambda path: saved(Image.effect_noise((200, 200), 40), path), "no digit found; nothing is drawn in it"),
        (lambda path: saved(Image.linear_gradient("L"), path), "no digit found; nothing is drawn in it"),
    ],
)
def test_what_is_no_picture_of_a_digit_is_refused(tmp_path: Path, contents: Callable[[Path], bytes], message: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(contents(path))
    with pytest.raises(PictureError, match=rf"^{message}") as refusal:
        prepared(path)
    assert "\n" not in str(refusal.value)


def test_a_missing_file_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match=r"^cannot be read: No such file or directory$"):
        prepared(tmp_path / "nothing.png")


def test_arrays_are_pictures_too() -> None:
    dark = np.asarray(dark_on_light())
    alike = [dark, dark / 255, (dark / 255).astype(np.float32), np.stack([dark] * 3, axis=-1)]
    [expected] = from_array(dark, PHOTO_SIDE)
    for array in (*alike, np.stack([dark, dark])):
        for picture in from_array(array, PHOTO_SIDE):
            np.testing.assert_allclose(picture, expected, atol=0.01)
    assert len(from_array(np.stack([dark, dark]), PHOTO_SIDE)) == 2


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(784), r"an array of shape \(784,\) is no picture; give \(H, W\), \(N, H, W\) or in colour \(H, W, 3\)"),
        (np.zeros((0, 28, 28)), r"an array of shape \(0, 28, 28\)"),
        (np.full((28, 28), 255.0), r"floats from 255 to 255; give floats in \[0, 1\], or uint8"),
        (np.full((28, 28), np.nan), "floats from nan to nan"),
        (np.zeros((28, 28), np.int64), r"an array of int64 is no picture; give uint8, or floats in \[0, 1\]"),
    ],
)
def test_what_is_no_array_of_pictures_is_refused(array: "np.ndarray[Any, Any]", message: str) -> None:
    with pytest.raises(PictureError, match=f"^{message}"):
        from_array(array, PHOTO_SIDE)


def blank(kind: str, rng: np.random.Generator) -> Tensor:
    """Empty paper `(180, 240)` with a camera's noise."""
    y, x = np.mgrid[0:1:180j, 0:1:240j]
    across, down, spread = rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.8), rng.uniform(0.05, 0.15)
    light = {
        "flat": np.ones_like(x),
        "gradient": 0.7 + 0.3 * across * x - 0.3 * down * y,
        "vignette": 1 - 0.5 * ((x - 0.5) ** 2 + (y - 0.5) ** 2) ** 1.3,
        "texture": 1 + 0.02 * ndimage.gaussian_filter(rng.standard_normal(x.shape), 2) * 7,
        "soft shadow": 1 - 0.3 / (1 + np.exp(-(x - across + 0.4 * (y - down)) / spread)),
        "round shadow": 1 - 0.3 * np.exp(-((x - across) ** 2 + (y - down) ** 2) / (4 * spread**2)),
    }[kind]
    return torch.from_numpy((220 * light + 2 * rng.standard_normal(x.shape)).clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize(
    ("kind", "at_least"),
    [("flat", 12), ("gradient", 12), ("vignette", 12), ("texture", 12), ("soft shadow", 11), ("round shadow", 9)],
)
def test_blank_paper_holds_no_digit(kind: str, at_least: int) -> None:
    """Of 12 pictures; a small shadow is a blob that a thick pen could have made."""
    rng, refused = np.random.default_rng(3), 0
    for _ in range(12):
        try:
            prepare(*from_array(blank(kind, rng).numpy(), PHOTO_SIDE))
        except PictureError:
            refused += 1
    assert refused >= at_least


def sheet(digits: list[list[int]], gap: int = 30) -> tuple[Image.Image, list[list[Tensor]]]:
    """Drawn digits, dark on light, in lines that lie askew; and what `fit` makes of each."""
    images, labels = synthetic.draw(60, seed=4)
    paper = Image.new("L", (max(map(len, digits)) * (70 + gap) + 40, len(digits) * 130 + 60), 255)
    expected = []
    for row, line in enumerate(digits):
        large = [
            Image.fromarray(images[labels == digit][row].numpy()).resize((112, 112), Image.Resampling.BICUBIC) for digit in line
        ]
        for column, one in enumerate(large):
            one = one.crop(one.getbbox())
            paper.paste(20, (20 + column * (70 + gap), 20 + 130 * row + 4 * column), mask=one)
        expected.append([fit(np.asarray(one) / 255) for one in large])
    return paper, expected


def test_a_sheet_is_read_line_by_line(tmp_path: Path) -> None:
    paper, expected = sheet([[3, 1, 4, 0], [5, 9], [2, 6, 5]])
    paper.save(tmp_path / "a.png")
    found = prepare_sheet(read(tmp_path / "a.png", SHEET_SIDE))
    assert [len(line) for line in found] == [4, 2, 3]
    for line, others in zip(found, expected, strict=True):
        for image, other in zip(line, others, strict=True):
            assert likeness(image, other) > 0.75


def test_several_digits_in_one_picture_are_counted(tmp_path: Path) -> None:
    paper, _ = sheet([[3, 1, 4]])
    paper.save(tmp_path / "a.png")
    assert prepare(read(tmp_path / "a.png", PHOTO_SIDE))[1] == 3

"""The digits that the project draws."""

import torch

from mnist_lightning.data.datamodule import synthetic


def test_digits_are_in_mnists_format_and_balanced() -> None:
    images, labels = synthetic.draw(250, seed=0)
    assert (images.shape, images.dtype, labels.dtype) == ((250, 28, 28), torch.uint8, torch.int64)
    assert torch.equal(torch.bincount(labels), torch.full((10,), 25))
    assert images.float().mean() > 10  # ink
    assert images[:, [0, -1]].float().mean() < 5  # on a black margin


def test_the_same_seed_draws_the_same_digits() -> None:
    assert torch.equal(synthetic.draw(30, seed=1)[0], synthetic.draw(30, seed=1)[0])
    assert not torch.equal(synthetic.draw(30, seed=1)[0], synthetic.draw(30, seed=2)[0])


def test_drawing_leaves_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    synthetic.draw(20, seed=5)
    assert torch.equal(torch.get_rng_state(), state)


def test_classes_can_be_told_apart() -> None:
    """The nearest class mean of other drawn digits names most of them: labels belong to their images."""
    (train, train_labels), (test, test_labels) = synthetic.draw(1000, seed=1), synthetic.draw(200, seed=2)
    means = torch.stack([train[train_labels == d].float().mean(0) for d in range(10)])
    preds = torch.cdist(test.float().flatten(1), means.flatten(1)).argmin(1)
    assert (preds == test_labels).float().mean() > 0.7

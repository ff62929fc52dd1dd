"""A data set to train on in a blink."""

from sw.data import Dataset, digits


def few_digits() -> Dataset:
    """The first digits of each part."""
    data = digits()
    return Dataset(
        train_images=data.train_images[:96],
        train_labels=data.train_labels[:96],
        test_images=data.test_images[:50],
        test_labels=data.test_labels[:50],
    )

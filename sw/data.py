"""Image data sets as uint8 tensors: scikit-learn's digits, anything in MNIST's IDX files, CIFAR-10."""

import gzip
import zlib
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hdl.console import RefusedError

from .recipe import DATASETS

CLASSES = 10
UNSIGNED_BYTES = 0x08

# Images in each of CIFAR-10's files, and an image's bytes: its label, then red, green and blue planes.
CIFAR10_IMAGES = 10_000
CIFAR10_SHAPE = (3, 32, 32)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Images to train on and images held out.

    Members
    -------
    train_images, test_images : Tensor
        uint8, shape (count, channels, height, width), 0 … 255.
    train_labels, test_labels : Tensor
        int64, 0 … 9.
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor

    @property
    def input_shape(self) -> tuple[int, int, int]:
        _, channels, height, width = self.train_images.shape
        return channels, height, width

    def to(self, device: torch.device) -> "Dataset":
        """The same on a device."""
        return Dataset(**{name: tensor.to(device) for name, tensor in vars(self).items()})

    def first(self, count: int) -> "Dataset":
        """The same with only so many training images, the first ones.

        Raises
        ------
        RefusedError
            If there are fewer.
        """
        if count > len(self.train_images):
            raise RefusedError(
                f"--images must be at most the {len(self.train_images)} training images, not {count}"
            )
        return replace(self, train_images=self.train_images[:count], train_labels=self.train_labels[:count])


def load(name: str, *, folder: Path = Path("data")) -> Dataset:
    """The named data set; `folder` holds the files of those that need any.

    Raises
    ------
    ValueError
        If no data set has that name.
    RefusedError
        If a file is missing or not what it must be.
    """
    if name not in DATASETS:
        raise ValueError(f"dataset must be one of {', '.join(DATASETS)}, not {name!r}")
    if name == "digits":
        return digits()
    return cifar10(folder) if name == "cifar10" else idx_files(folder)


def digits() -> Dataset:
    """scikit-learn's 1797 handwritten digits of 8×8 pixels; 0 … 16 becomes 0 … 255.

    Every fifth image of each class is held out, so the split is stratified and always the same.
    """
    from sklearn.datasets import load_digits

    source = load_digits()
    images = np.floor(source.images * (255 / 16) + 0.5).astype(np.uint8)[:, np.newaxis]
    labels = source.target.astype(np.int64)
    held_out = np.zeros(len(labels), dtype=bool)
    for label in range(CLASSES):
        held_out[np.flatnonzero(labels == label)[4::5]] = True
    return Dataset(
        train_images=torch.from_numpy(images[~held_out]),
        train_labels=torch.from_numpy(labels[~held_out]),
        test_images=torch.from_numpy(images[held_out]),
        test_labels=torch.from_numpy(labels[held_out]),
    )


def idx_files(folder: Path) -> Dataset:
    """The four files ``{train,t10k}-{images-idx3,labels-idx1}-ubyte`` in `folder`, plain or ``.gz``.

    Raises
    ------
    RefusedError
        If one is missing, truncated, malformed, or does not match its partner.
    """
    train_images, train_labels = _pair(folder, "train")
    test_images, test_labels = _pair(folder, "t10k")
    if train_images.shape[1:] != test_images.shape[1:]:
        raise RefusedError(
            f"{folder}: test images must be as large as the training images "
            f"{tuple(train_images.shape[2:])}, not {tuple(test_images.shape[2:])}"
        )
    return Dataset(
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
    )


def cifar10(folder: Path) -> Dataset:
    """CIFAR-10's binary version: ``data_batch_1.bin`` … ``data_batch_5.bin`` and ``test_batch.bin``.

    Raises
    ------
    RefusedError
        If a file is missing, or not what it must be.
    """
    train = [_cifar10_batch(folder / f"data_batch_{number}.bin") for number in range(1, 6)]
    test_images, test_labels = _cifar10_batch(folder / "test_batch.bin")
    return Dataset(
        train_images=torch.cat([images for images, _ in train]),
        train_labels=torch.cat([labels for _, labels in train]),
        test_images=test_images,
        test_labels=test_labels,
    )


def _cifar10_batch(path: Path) -> tuple[Tensor, Tensor]:
    if not path.is_file():
        raise RefusedError(f"{path}: no such file (--data-dir must hold CIFAR-10's binary version)")
    content, expected = path.read_bytes(), CIFAR10_IMAGES * (1 + prod(CIFAR10_SHAPE))
    if len(content) != expected:
        raise RefusedError(f"{path}: must have {expected} bytes, not {len(content)}")
    records = np.frombuffer(content, np.uint8).reshape(CIFAR10_IMAGES, -1)
    labels = records[:, 0].astype(np.int64)
    if labels.max() >= CLASSES:
        raise RefusedError(f"{path}: labels must be 0 … {CLASSES - 1}, not {labels.max()}")
    images = records[:, 1:].reshape(-1, *CIFAR10_SHAPE).copy()
    return torch.from_numpy(images), torch.from_numpy(labels)


def _pair(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    image_file = _find(folder, f"{part}-images-idx3-ubyte")
    label_file = _find(folder, f"{part}-labels-idx1-ubyte")
    images, labels = read_idx(image_file, dimensions=3), read_idx(label_file, dimensions=1)
    if 0 in images.shape:
        raise RefusedError(f"{image_file}: must hold images, not an array of shape {images.shape}")
    if len(images) != len(labels):
        raise RefusedError(f"{label_file}: must hold {len(images)} labels, one an image, not {len(labels)}")
    if labels.max() >= CLASSES:
        raise RefusedError(f"{label_file}: labels must be 0 … {CLASSES - 1}, not {labels.max()}")
    return torch.from_numpy(images[:, np.newaxis]), torch.from_numpy(labels.astype(np.int64))


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise RefusedError(f"{folder / name}: no such file, plain or .gz (--data-dir must hold the IDX files)")


def read_idx(path: Path, *, dimensions: int) -> NDArray[np.uint8]:
    """An IDX file of unsigned bytes, gzip or plain (told apart by content).

    Layout: two zero bytes, the type (8: unsigned byte), the number of dimensions, each size as a
    big-endian 32-bit integer, then the values.

    Raises
    ------
    RefusedError
        If the file is not that, has other dimensions, or too few or too many bytes.
    """
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise RefusedError(f"{path}: must be a whole gzip file ({error})") from error
    expected = bytes((0, 0, UNSIGNED_BYTES, dimensions))
    if content[:4] != expected:
        raise RefusedError(
            f"{path}: must be an IDX file of bytes in {dimensions} dimensions "
            f"(first bytes {expected.hex()}), not {content[:4].hex() or 'empty'}"
        )
    header = 4 + 4 * dimensions
    if len(content) < header:
        raise RefusedError(f"{path}: must have a header of {header} bytes, not {len(content)} in all")
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", dimensions, 4))
    if len(content) != header + prod(shape):
        raise RefusedError(
            f"{path}: must have {header + prod(shape)} bytes for shape {shape}, not {len(content)}"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy()

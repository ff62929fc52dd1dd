"""Data sets: the digits' split and pixels, and IDX files good and bad."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from hdl.console import RefusedError
from sw import data as datasets
from sw.data import digits, idx_files, load, read_idx

MNIST = Path(__file__).parents[2] / "shared" / "data" / "mnist"


def idx(array: np.ndarray) -> bytes:
    """An IDX file, written out from the format's description."""
    header = bytes((0, 0, 8, array.ndim)) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def folder(tmp_path):
    """Small IDX files: 6 training and 4 test images of 3×5 pixels, one half gzipped."""
    images = np.arange(90).reshape(6, 3, 5)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(images))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.arange(6))))
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images[:4] + 100)))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(np.array([9, 8, 7, 6])))
    return tmp_path


def test_digits_pixels_and_split():
    data, source = digits(), load_digits()
    assert data.input_shape == (1, 8, 8)
    assert data.train_images.dtype == data.test_images.dtype == torch.uint8
    assert len(data.train_images) + len(data.test_images) == len(source.images) == 1797
    pixels = [0, 16, 32, 48, 64, 80, 96, 112, 128, 143, 159, 175, 191, 207, 223, 239, 255]
    table = np.array(pixels, dtype=np.uint8)[source.images.astype(int)]
    everything = torch.cat([data.train_images, data.test_images]).flatten(1)
    assert sorted(map(tuple, everything.tolist())) == sorted(map(tuple, table.reshape(-1, 64).tolist()))


def test_digits_split_is_stratified_and_repeats():
    data, again = digits(), digits()
    assert torch.equal(data.test_images, again.test_images)
    for label in range(10):
        held_out, trained = (int((labels == label).sum()) for labels in (data.test_labels, data.train_labels))
        assert held_out == (held_out + trained) // 5
    unseen = {tuple(image) for image in data.test_images.flatten(1).tolist()}
    assert unseen.isdisjoint(tuple(image) for image in data.train_images.flatten(1).tolist())


def test_idx_files_plain_and_gzip(folder):
    data = load("mnist", folder=folder)
    assert data.train_images.shape == (6, 1, 3, 5)
    assert data.train_images.flatten().tolist() == list(range(90))
    assert data.test_images.flatten().tolist() == list(range(100, 160))
    assert data.train_labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert data.test_labels.tolist() == [9, 8, 7, 6]
    assert data.input_shape == (1, 3, 5)


@pytest.mark.skipif(not MNIST.is_dir(), reason="MNIST's files are not beside this checkout")
def test_real_mnist():
    data = idx_files(MNIST)
    assert data.train_images.shape == (60000, 1, 28, 28)
    assert data.test_labels[:5].tolist() == [7, 2, 1, 0, 4]


def break_file(folder: Path, name: str, content: bytes | None) -> Path:
    path = next(folder.glob(f"{name}*"))
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    return path


IMAGES = np.zeros((6, 3, 5))
BAD_FILES = [
    (
        "train-images",
        None,
        "train-images-idx3-ubyte: no such file, plain or .gz (--data-dir must hold the IDX files)",
    ),
    ("train-images", b"", "must be an IDX file of bytes in 3 dimensions (first bytes 00000803), not empty"),
    (
        "train-images",
        b"<html>",
        "must be an IDX file of bytes in 3 dimensions (first bytes 00000803), not 3c68746d",
    ),
    ("train-images", idx(np.zeros(6)), "in 3 dimensions (first bytes 00000803), not 00000801"),
    ("train-images", idx(IMAGES)[:9], "must have a header of 16 bytes, not 9 in all"),
    ("train-images", idx(IMAGES)[:-1], "must have 106 bytes for shape (6, 3, 5), not 105"),
    ("train-images", idx(IMAGES) + b"x", "must have 106 bytes for shape (6, 3, 5), not 107"),
    ("train-images", idx(np.zeros((6, 0, 5))), "must hold images, not an array of shape (6, 0, 5)"),
    ("train-images", gzip.compress(idx(IMAGES), mtime=0)[:-9], "must be a whole gzip file ("),
    ("train-images", gzip.compress(idx(IMAGES), mtime=0)[:5] + bytes(20), "must be a whole gzip file ("),
    ("train-labels", idx(np.zeros(5)), "must hold 6 labels, one an image, not 5"),
    ("train-labels", idx(np.full(6, 10)), "labels must be 0 … 9, not 10"),
    (
        "t10k-images",
        idx(np.zeros((4, 3, 4))),
        "test images must be as large as the training images (3, 5), not (3, 4)",
    ),
]


@pytest.mark.parametrize(
    ("name", "content", "message"), BAD_FILES, ids=[f"{name}-{i}" for i, (name, *_) in enumerate(BAD_FILES)]
)
def test_bad_files_are_refused_by_name(folder, name, content, message):
    path = break_file(folder, name, content)
    with pytest.raises(RefusedError) as caught:
        idx_files(folder)
    assert message in str(caught.value)
    assert str(path.parent if "as large as" in message else path) in str(caught.value)


@pytest.fixture
def batches(tmp_path, monkeypatch):
    """CIFAR-10's files with 2 images each; the red corner counts files, blue's last pixel images."""
    monkeypatch.setattr(datasets, "CIFAR10_IMAGES", 2)
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    for number, name in enumerate(names):
        records = [bytes([image, number, *[7] * 3070, 250 + image]) for image in range(2)]
        (tmp_path / f"{name}.bin").write_bytes(b"".join(records))
    return tmp_path


def test_cifar10(batches):
    data = load("cifar10", folder=batches)
    assert data.input_shape == (3, 32, 32)
    assert data.train_images.dtype == torch.uint8
    assert data.train_images[:, 0, 0, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert data.test_images[:, 0, 0, 0].tolist() == [5, 5]
    assert data.test_images[:, 2, 31, 31].tolist() == [250, 251]
    assert data.train_labels.tolist() == [0, 1] * 5
    assert data.test_labels.tolist() == [0, 1]
    assert data.train_images.float().mean() == pytest.approx((3070 * 7 + 2 + 250.5) / 3072)


def test_cifar10_has_its_own_size():
    assert datasets.CIFAR10_IMAGES * (1 + 32 * 32 * 3) == 30_730_000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file (--data-dir must hold CIFAR-10's binary version)"),
        (b"", "must have 6146 bytes, not 0"),
        (bytes(6147), "must have 6146 bytes, not 6147"),
        (bytes([10]) + bytes(6145), "labels must be 0 … 9, not 10"),
    ],
)
def test_bad_files_of_cifar10(batches, content, message):
    path = break_file(batches, "data_batch_3", content)
    with pytest.raises(RefusedError) as caught:
        load("cifar10", folder=batches)
    assert str(caught.value) == f"{path}: {message}"


def test_read_idx_of_a_folder_names_it(tmp_path):
    with pytest.raises(OSError, match=str(tmp_path)):
        read_idx(tmp_path, dimensions=1)


def test_unknown_dataset():
    with pytest.raises(
        ValueError, match="dataset must be one of digits, mnist, fashion_mnist, cifar10, not 'cifar'"
    ):
        load("cifar")

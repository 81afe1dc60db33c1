"""What a data set holds: a training and a test part, and what is told of them."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from trainables.errors import DataError
from trainables.images import UInt8

PartName = Literal["train", "test"]


@dataclass(frozen=True, eq=False)
class Part:
    """The training or the test part of a data set.

    Args:
        images: uint8 (N, H, W) grey levels, light ink on dark.
        labels: uint8 (N,) class numbers.
    """

    images: UInt8
    labels: UInt8

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.dtype != np.uint8 or images.ndim != 3 or not images.size:
            raise DataError(f"images must be uint8 (N, H, W) and not empty, got {images.dtype} {images.shape}")
        if labels.dtype != np.uint8 or labels.shape != images.shape[:1]:
            raise DataError(f"labels must be uint8 ({len(images)},), got {labels.dtype} {labels.shape}")


@dataclass(frozen=True)
class PartSize:
    """How many images a part has: in all and of each class, in the order of the class names."""

    count: int
    per_class: tuple[int, ...]


@dataclass(frozen=True)
class Description:
    """What a data set is: its frame in pixels, its classes, the sizes of its parts, and where it lies.

    Args:
        repeated: How many images of the training part are there already, to the pixel, and how many of the test part
            the training part holds too; None of one that was prepared before they were counted.
    """

    name: str
    height: int
    width: int
    class_names: tuple[str, ...]
    train: PartSize
    test: PartSize
    repeated: tuple[int, int] | None
    where: str

    @property
    def doubts(self) -> list[str]:
        """What a model may know by heart, and what to do."""
        in_train, in_both = self.repeated or (0, 0)
        found = []
        if in_train:
            found.append(
                f"{self.name}: of {self.train.count} training images, {in_train} repeat another to the pixel: where "
                "the two are parted, the validation figures are too good; keep one of each"
            )
        if in_both:
            found.append(
                f"{self.name}: of {self.test.count} test images, {in_both} are training images too, to the pixel: the "
                "winner's test figure is too good; keep one of each"
            )
        return found


@dataclass(frozen=True)
class Whole:
    """Both parts, and the names of their classes in the order of their numbers."""

    class_names: tuple[str, ...]
    train: Part
    test: Part

    def describe(self, name: str, where: str) -> Description:
        """The same told in numbers."""
        height, width = self.train.images.shape[1:]
        train, test = (_part_size(part.labels, len(self.class_names)) for part in (self.train, self.test))
        known = {image.tobytes() for image in self.train.images}
        repeated = train.count - len(known), sum(image.tobytes() in known for image in self.test.images)
        return Description(name, height, width, self.class_names, train, test, repeated, where)


def _part_size(labels: UInt8, num_classes: int) -> PartSize:
    return PartSize(len(labels), tuple(np.bincount(labels, minlength=num_classes).tolist()))

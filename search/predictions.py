"""What a model read on the test images, as a table: kept when the test part is read, which is done once."""

from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from results.tables import SCHEMA

PREDICTIONS = "predictions.parquet"


def predictions(trained: Any, images: np.ndarray, labels: np.ndarray) -> bytes:
    """A Parquet file of one row a test image, in the data set's order.

    `index` counts from 0; `label` and `digit`, what it is and what was read, are names of classes; `probability` is
    that of what was read, `probabilities` those of all classes, in order; `image`, PNG, is kept where the two differ.

    Args:
        trained: A `trainables.model.Model`.
        images: uint8 (N, H, W).
        labels: Class numbers (N,).
    """
    file = BytesIO()
    pq.write_table(_table(trained, images, labels), file)
    return file.getvalue()


def _table(trained: Any, images: np.ndarray, labels: np.ndarray) -> pa.Table:
    probabilities, names = trained.probabilities(images), trained.card.class_names
    read = probabilities.argmax(axis=1)
    pictures = [_png(image) if wrong else None for image, wrong in zip(images, read != labels, strict=True)]
    columns = {
        "index": pa.array(range(len(labels)), pa.int64()),
        "label": pa.array([names[number] for number in labels], pa.string()),
        "digit": pa.array([names[number] for number in read], pa.string()),
        "probability": pa.array(probabilities.max(axis=1), pa.float32()),
        "probabilities": pa.array(list(probabilities), pa.list_(pa.float32())),
        "image": pa.array(pictures, pa.binary()),
    }
    return pa.table(columns).replace_schema_metadata({"digitsearch_schema": SCHEMA})


def _png(image: np.ndarray) -> bytes:
    file = BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()

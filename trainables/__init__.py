"""Train, evaluate and predict with one model. Nothing here knows of Ray, of Optuna or of a search."""

from trainables.errors import DataError, ImageError, ModelError
from trainables.trial import Data, Report, Save, Train, Trial

__all__ = ["Data", "DataError", "ImageError", "ModelError", "Report", "Save", "Train", "Trial"]

"""What MLflow runs to serve an ensemble: this file is copied into the model's folder, and is all the code in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd

from mammo_lightning.errors import DataError
from mammo_lightning.tracking.servable import load_servable


class Served(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Native pixels to the probability of each class, and the decision at the operating point."""

    # MLflow asks for type hints to guess a signature from; the signature is given
    _skip_type_hint_validation = True

    def load_context(self, context: Any) -> None:
        """Read weights and configuration."""
        self.servable = load_servable(Path(context.artifacts["servable"]))

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201, ARG002, RUF100
        """One row an image; what is no image is answered as the fault of who asks, in one line."""
        images = np.asarray(model_input)
        try:
            if images.size and images.dtype.kind == "u" and images.max() <= 1:  # MLflow has cut off what stood behind 0
                top = np.iinfo(images.dtype).max
                raise DataError(
                    f"no pixel is above 1, and the model takes {images.dtype} as it stands in the file, 0 to {top}; do "
                    "not divide it"
                )
            scores = self.servable(images)
        except DataError as error:
            raise mlflow.exceptions.MlflowException.invalid_parameter_value(str(error)) from None
        columns = {f"p_{self.servable.classes[0]}": 1.0 - scores, f"p_{self.servable.classes[-1]}": scores}
        return pd.DataFrame({**columns, "positive": scores >= self.servable.threshold})


mlflow.models.set_model(Served())

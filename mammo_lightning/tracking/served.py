"""What MLflow runs to serve an ensemble: this file is copied into the model's folder, and is all the code in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd

from mammo_lightning.tracking.servable import load_servable


class Served(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Native pixels to the probability of each class, and the decision at the operating point."""

    # MLflow asks for type hints to guess a signature from; the signature is given
    _skip_type_hint_validation = True

    def load_context(self, context: Any) -> None:
        """Read weights and configuration."""
        self.servable = load_servable(Path(context.artifacts["servable"]))

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201, ARG002, RUF100
        """One row an image."""
        scores = self.servable(np.asarray(model_input))
        columns = {f"p_{self.servable.classes[0]}": 1.0 - scores, f"p_{self.servable.classes[-1]}": scores}
        return pd.DataFrame({**columns, "positive": scores >= self.servable.threshold})


mlflow.models.set_model(Served())

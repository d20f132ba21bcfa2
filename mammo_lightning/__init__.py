"""Honest studies of mammogram classifiers: networks by Lightning, searches by Optuna, every run in MLflow."""

import os

# Nothing phones home. Both are read at import time by the libraries, hence here, before any of them.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "1")

__version__ = "0.1.0"

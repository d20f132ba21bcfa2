"""What happened, on disk first (journal), then in MLflow (publish), as its UI shows it well (views)."""

import os

# Read by MLflow when it is imported or called. A user's own setting wins. Without the bounds a dead server
# holds a request for a quarter of an hour; telemetry asks the network; printed run links tear a live display.
for _name, _value in {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # it would repeat what must not be done twice; see patience.py
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_RECORD_ENV_VARS_IN_MODEL_LOGGING": "false",
}.items():
    os.environ.setdefault(_name, _value)

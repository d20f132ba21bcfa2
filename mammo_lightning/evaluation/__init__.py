"""From Predictions to numbers and figures; nothing here trains."""

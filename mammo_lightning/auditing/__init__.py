"""A dataset looked at before anything is trained on it, and what was found kept as a run."""

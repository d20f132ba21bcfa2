"""From a finished run to a version in the registry: its card, and whether it may be promoted."""

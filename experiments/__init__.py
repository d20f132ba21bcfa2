"""The verbs: each file parses its arguments, calls the package and prints."""

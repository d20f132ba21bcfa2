"""What may be wrong with a machine, its stores and its runs; each check says one line and never raises."""

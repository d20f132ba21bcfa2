"""Which training rows are used, and how much each class counts."""

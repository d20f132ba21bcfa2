"""Models applied to images they were not made of: folders of files, second datasets, and what other tools predicted."""

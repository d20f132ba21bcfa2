"""Array to array: what is done to every image alike, and the readers of files."""

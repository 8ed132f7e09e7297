"""The primary white cell of each image: where it is, its crop, its mask of cytoplasm and nucleus."""

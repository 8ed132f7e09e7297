"""Shape, size and colour of each cell, measured inside its mask."""

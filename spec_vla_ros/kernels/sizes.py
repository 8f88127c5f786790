"""How much a kernel has room for."""

WIDEST = 8  # beams, and branches, of one step
MODES = 4  # distinct guesses of one dimension that a beam may branch into
SMALLEST_HEAD = 8  # numbers of a head whose keys and queries are turned

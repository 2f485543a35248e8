"""Pure functions of tensors: geometry, colour, alignment, metrics and statistics. They import torch only."""

"""Data sets with opinion scores: cards, readers, splits, training crops."""

"""Files, locks, signals, threads and memory: what has nothing to do with pictures."""

"""Files, locks, signals, threads and memory; nothing here knows about pictures."""

"""Scoring by the folder: inputs (what to read), formats and results (what is written), engine (the run)."""

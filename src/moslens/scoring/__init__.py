"""Scoring: from a model folder and a picture to a score and a quality map."""

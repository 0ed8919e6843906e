"""Measuring predictions: figures, tables, reports, comparisons, ablations, probes."""

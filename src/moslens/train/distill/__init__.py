"""Distillation: the pristine pool, banks of composites and ladders, teacher targets, the student's task."""

"""What tests share; benchmarks of faults use it too."""

"""Many pictures: inputs, the run, rows and writers, object stores, Ray, maps and degraded pictures by the folder."""

"""From a finished run to a model folder: export, the public score scale, the block labels."""

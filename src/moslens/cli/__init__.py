"""The ``moslens`` command: one module a subcommand, with a function ``run`` (see :mod:`moslens.cli.app`)."""

"""The subcommands of ``moslens``, one module each: function ``run`` in ``NAME.py`` (see ``moslens.cli``)."""

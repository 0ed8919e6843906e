"""The subcommands of ``moslens``, one module each: ``run`` in ``moslens.commands.NAME`` (see ``moslens.cli``)."""

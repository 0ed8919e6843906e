"""``python -m moslens`` is the ``moslens`` command."""

from moslens.cli.app import main

if __name__ == "__main__":
    main()

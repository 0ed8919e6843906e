"""``python -m moslens`` is the ``moslens`` command."""

from moslens.cli import main

if __name__ == "__main__":
    main()

"""``python -m train.cli``: the ``train`` command, where no script is installed."""

from train.cli import main

main()

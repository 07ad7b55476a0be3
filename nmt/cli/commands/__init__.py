"""One module per command, see :class:`nmt.cli.program.Command`.

PyTorch takes a second to import. A module imports within its functions what its command needs, so that ``--help`` and
mistakes answer at once.
"""

"""Emulated programs of the guest: those that on a real instance need a daemon, a kernel or a GPU.

Each module answers one command or a family of them (`commands.py` says which), has a ``main(argv, system)`` that
returns the exit status, and begins with ``REFUSALS``: command lines that it refuses, with the real program's message
and status. The tests run every row of these tables. The guest's interpreter has the standard library only, and the
modules see their instance through `system.System` only: a test gives it a folder instead of ``/``.
"""

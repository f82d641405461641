"""Programs that run inside the guest, in place of those that need a real instance.

Each module answers one command or a family of them (`commands.py` says which), has a ``main(argv, system)`` that
returns the exit status, and begins with ``REFUSALS``: command lines that it refuses, with the real program's message
and status. The tests run every row of these tables. The guest's interpreter has the standard library only, and the
modules see their instance through `system.System` only: a test gives it a folder instead of ``/``.
"""

#!/usr/libexec/guest/python/bin/python3 -IS
"""The instance's `aws` once `dnf` has installed it: the real AWS CLI, which finds the sandbox's AWS by itself.

A real instance gives the CLI its region and its credentials by the metadata service, which the guest has not.
"""

import json
import os
import sys


def main() -> int:
    """Run the AWS CLI."""
    with open("/usr/libexec/guest/instance.json", encoding="utf-8") as file:  # noqa: PTH123 - start-up time
        for name, value in json.load(file).items():
            os.environ.setdefault(name, value)
    sys.path.append("/usr/libexec/guest/site")
    sys.dont_write_bytecode = True
    from awscli.clidriver import main as run

    status: int = run()
    return status


if __name__ == "__main__":
    sys.exit(main())

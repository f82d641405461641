"""Runs one script in an instance as SSM's agent does: from a file of its own, again after a reboot that it asks for."""

from __future__ import annotations

from gpu_ami_sandbox.guest.builder import Builder
from gpu_ami_sandbox.guest.instances import BuildInstances
from gpu_ami_sandbox.guest.script import Ran

# A script that ends with it is run again after a reboot (Systems Manager's guide).
_REBOOT = 194
_MOST_RUNS = 4
# The agent writes the lines to a file and has `sh -c` start it: a first line `#!/bin/bash` counts.
_FROM_A_FILE = (
    'file=$(mktemp -p /var/lib/amazon/ssm script.XXXXXX) && cat >"$file" && chmod 700 "$file" && '
    'sh -c "$file" </dev/null; status=$?; rm -f "$file"; exit $status'
)


async def run_script(instances: BuildInstances, builder: Builder, text: str) -> Ran:
    """Return what the script *text* left in the instance of *builder*."""
    ran = Ran(None, "", "")
    for _ in range(_MOST_RUNS):
        instance = await instances.instance(builder)
        if instance.is_off:
            return Ran(None, "", "")
        child = await instances.start(instance, ["/bin/sh", "-c", _FROM_A_FILE], as_root=True)
        try:
            output, errors = await child.communicate(text.encode())
        finally:
            status = await instances.end(child)
        ran = Ran(status, output.decode(errors="replace"), errors.decode(errors="replace"))
        if instances.power(instance) is None and status != _REBOOT:
            break
        if status == _REBOOT:
            instances.reboot(instance)
    return ran

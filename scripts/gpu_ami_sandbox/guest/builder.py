"""What the guest needs to know of the instance it emulates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# How the GPUs of an instance can fail, with what its jobs would meet.
FAULTS: Final = {
    "missing": "no NVIDIA device is on the bus",
    "not-loaded": "the kernel has not loaded the driver",
    "driver-mismatch": "the kernel's module is of another version than the driver's libraries",
    "two-drivers": "one more GPU, if there is only one, and the last one says another version of the driver",
    "error-805": "NVIDIA MPS has its pipe under /tmp, so that every job is its client and cannot connect",
    "no-runtime": "Docker does not know the runtime that jobs with GPUs are started with",
}


@dataclass(frozen=True)
class Gpus:
    """The GPUs of an instance type.

    Attributes:
        model: As EC2 names it, such as ``A10G``.
        memory_mib: Of each, as EC2 says.
        count: How many.
        fault: One of `FAULTS`; empty for GPUs that work.
    """

    model: str
    memory_mib: int
    count: int
    fault: str = ""


@dataclass(frozen=True)
class Builder:
    """One instance of the local AWS that may be logged in to.

    Attributes:
        instance_id: Its id; the guest keeps one root folder per instance.
        public_key: The public key of its key pair, as an ``authorized_keys`` line.
        user_data: What cloud-init would run at the first boot; empty when there is none.
        parent: The instance whose volume its AMI was made of; empty for an AMI that was not made here.
        base: The name of its AMI; empty when it has none.
        gpus: Its GPUs; None without.
    """

    instance_id: str
    public_key: str
    user_data: bytes = b""
    parent: str = ""
    base: str = ""
    gpus: Gpus | None = None

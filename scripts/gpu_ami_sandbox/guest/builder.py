"""What the guest needs to know of the instance it emulates."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Builder:
    """One instance of the local AWS that may be logged in to.

    Attributes:
        instance_id: Its id; the guest keeps one root folder per instance.
        public_key: The public key of its key pair, as an ``authorized_keys`` line.
        user_data: What cloud-init would run at the first boot; empty when there is none.
        parent: The instance whose volume its AMI was made of; empty for an AMI that was not made here.
        base: The name of its AMI; empty when it has none.
    """

    instance_id: str
    public_key: str
    user_data: bytes = b""
    parent: str = ""
    base: str = ""

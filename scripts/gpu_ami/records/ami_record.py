"""Records of what was found of an AMI, kept with the code that will use it: written, and read back where they fit.

One that is about an AMI of another image or other scripts, or of the other world, sandbox or AWS, counts as none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import msgspec

from gpu_ami.errors import UsageError
from gpu_ami.files import read_text, write_atomic
from gpu_ami.records.tags import FINGERPRINT_PREFIX, IMAGE_DIGEST_TAG


class Record(Protocol):
    """What every such record says of its AMI: which it is, what it was made from, and whether it is the sandbox's."""

    @property
    def ami_id(self) -> str: ...  # noqa: D102
    @property
    def image_digest(self) -> str: ...  # noqa: D102
    @property
    def fingerprints(self) -> dict[str, str]: ...  # noqa: D102
    @property
    def sandbox(self) -> bool: ...  # noqa: D102


_Record = TypeVar("_Record", bound=Record)


@dataclass(frozen=True, kw_only=True)
class Records(Generic[_Record]):
    """The records of one kind.

    Attributes:
        type: What is in a file.
        task: The task that writes them, such as ``verify``.
        of: What they are of, with its article, such as ``a verification``.
        folder: Their folder beside the code; never that of the receipts, which earlier versions read whole.
    """

    type: type[_Record]
    task: str
    of: str
    folder: str

    @property
    def _what(self) -> str:
        return f"{self.of.rpartition(' ')[2]} record"

    def path_of(self, terraform: Path, ami_id: str) -> Path:
        """Return where the record of *ami_id* is, in the folder *terraform* of the code that will use it."""
        return terraform / self.folder / f"{ami_id}.json"

    def write(self, terraform: Path, record: _Record) -> Path:
        """Write *record* beside the code that will use the AMI; return where. The last one of an AMI is believed.

        Raises:
            UsageError: The file cannot be written.
        """
        path = self.path_of(terraform, record.ami_id)
        text = msgspec.json.format(msgspec.json.encode(record), indent=2).decode() + "\n"
        write_atomic(path, text, what=self._what)
        return path

    def fitting(self, terraform: Path, ami_id: str, tags: Mapping[str, str], *, sandbox: bool) -> _Record | str:
        """Return the record that fits the AMI, or why there is none.

        Args:
            terraform: The folder of the code that will use it.
            ami_id: The AMI.
            tags: Its tags, as EC2 shows them now.
            sandbox: Whether the question is about the sandbox: its records count there only.

        Raises:
            UsageError: There is a record that cannot be read.
        """
        path = self.path_of(terraform, ami_id)
        if not path.exists():
            return f"there is no record {path.name} of {self.of}"
        try:
            record = msgspec.json.decode(read_text(path, what=self._what), type=self.type)
        except msgspec.MsgspecError as exc:
            msg = f"The {self._what} {path} cannot be read: {exc}. Run `invoke {self.task} --ami {ami_id}` again."
            raise UsageError(msg) from exc
        if record.ami_id != ami_id:
            return f"{path.name} is about {record.ami_id}"
        if record.sandbox != sandbox:
            return f"{path.name} is of {'the sandbox' if record.sandbox else 'AWS'}"
        if (record.image_digest, record.fingerprints) != facts_of(tags):
            return f"{path.name} is about an AMI made from something else than its tags say now"
        return record


def facts_of(tags: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Return the image digest and the fingerprints that an AMI's *tags* say it was made from."""
    fingerprints = {key: value for key, value in sorted(tags.items()) if key.startswith(FINGERPRINT_PREFIX)}
    return tags.get(IMAGE_DIGEST_TAG, ""), fingerprints

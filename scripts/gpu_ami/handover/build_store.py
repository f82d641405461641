"""Stores archives of builds: beside the code, and beside the Terraform state when that is in S3.

In S3 they lie under ``builds/``, beside ``receipts/`` and never in it: earlier versions read every JSON file there as a
receipt, and refuse the lot for one that is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gpu_ami.aws.access import Access
from gpu_ami.aws.caller import Caller
from gpu_ami.aws.s3 import get_bytes, put_text
from gpu_ami.errors import UsageError
from gpu_ami.handover.receipt_store import Bucket, bucket_of
from gpu_ami.records import archive, receipt
from gpu_ami.records.tags import checked_ami_id


@dataclass(frozen=True)
class Archived:
    """What was found of one AMI.

    Attributes:
        files: Name to text; empty where there is no archive.
        where: The folder or the S3 prefix that they are from, as people write it.
    """

    files: Mapping[str, str]
    where: str


class BuildStore:
    """The archives of one working tree, and of the bucket that its state is in.

    Args:
        builds: The folder of the archives in the tree.
        terraform: The root module; a backend is only known where it is initialized.
        access: The way to the bucket; it is not used as long as the tree has what is looked for.
        bucket: Where the state is, for a root module that is not connected to it; None is what that one knows.

    Raises:
        UsageError: What Terraform noted of its backend cannot be read.
    """

    def __init__(self, builds: Path, terraform: Path, access: Access, *, bucket: Bucket | None = None) -> None:
        self.folder = builds
        self.bucket = bucket or bucket_of(terraform, access.child_environment({}))
        self._access = access
        # Beside the receipts' folder.
        parent = "" if self.bucket is None else self.bucket.prefix.removesuffix(f"{receipt.FOLDER}/")
        self._prefix = f"{parent}{archive.FOLDER}/"

    def url(self, ami: str) -> str | None:
        """Return where the archive of *ami* lies in S3; None where no bucket is known."""
        return None if self.bucket is None else f"s3://{self.bucket.name}/{self._prefix}{checked_ami_id(ami)}/"

    def keep(self, ami: str, files: Mapping[str, str]) -> Path:
        """Write *files* of *ami* into the tree, then into the bucket if there is one; return the folder in the tree.

        Raises:
            UsageError: See `archive.keep`.
            AwsError: The bucket cannot be written; the tree has them.
        """
        folder = archive.keep(self.folder, ami, files)
        self.share(ami, files)
        return folder

    def share(self, ami: str, files: Mapping[str, str]) -> None:
        """Write the bucket's copy of *files* of *ami*, where there is a bucket.

        Raises:
            UsageError: *ami* is no AMI id, a name is none of an archive's, or a content is too large.
            AwsError: The bucket cannot be written.
        """
        if self.bucket is None:
            return
        for name, text in files.items():
            archive.check_content(name, len(text.encode()), where=f"{self.url(ami)}{name}")
        for name, text in files.items():
            put_text(self._caller(), self.bucket.name, self._key(ami, name), text)

    def read(self, ami: str, names: Iterable[str] = tuple(archive.LIMITS)) -> Archived:
        """Return what there is of *ami*: in the tree, of what is not there in the bucket.

        Raises:
            UsageError: A file is too large, unreadable or not UTF-8.
            AwsError: The bucket cannot be read.
        """
        wanted = tuple(names)
        files = archive.read(self.folder, ami, wanted)
        where = str(self.folder / ami)
        missing = [name for name in wanted if name not in files]
        if self.bucket is None or not missing:
            return Archived(files, where)
        found = {name: text for name in missing if (text := self.shared(ami, name)) is not None}
        return Archived({**files, **found}, where if files or not found else self.url(ami) or where)

    def shared(self, ami: str, name: str) -> str | None:
        """Return the file *name* of *ami* in the bucket; None where it has none, or no bucket is known.

        Raises:
            UsageError: It is too large, or not UTF-8.
            AwsError: The bucket cannot be read.
        """
        if self.bucket is None:
            return None
        limit = archive.LIMITS[name]
        raw = get_bytes(self._caller(), self.bucket.name, self._key(ami, name), limit_bytes=limit)
        if raw is None:
            return None
        url = f"{self.url(ami)}{name}"
        archive.check_content(name, len(raw), where=url)
        try:
            return raw.decode("utf-8-sig")
        except UnicodeDecodeError as exc:
            msg = f"The archived file {url} is not UTF-8 (byte {exc.start} is {raw[exc.start]:#04x}): is it ours?"
            raise UsageError(msg) from exc

    def _key(self, ami: str, name: str) -> str:
        return f"{self._prefix}{checked_ami_id(ami)}/{name}"

    def _caller(self) -> Caller:
        assert self.bucket is not None
        return Caller(self._access, self.bucket.region).patient()

"""Stores receipts: beside the code, and beside the Terraform state when that is in S3."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gpu_ami.aws.access import Access
from gpu_ami.aws.caller import Caller
from gpu_ami.aws.s3 import list_texts, put_text
from gpu_ami.records import receipt as receipts
from gpu_ami.records.receipt import Receipt, StoredReceipt
from gpu_ami.terraform import backends


@dataclass(frozen=True)
class Bucket:
    """Where receipts lie in S3: beside the state, whichever workspace that is of.

    Attributes:
        name: The bucket.
        region: Its region; None when the backend leaves it to the environment.
        prefix: The receipts' folder in it, with a slash at its end.
    """

    name: str
    region: str | None
    prefix: str

    def url(self, name: str) -> str:
        """Return where the receipt *name* is, as people write it."""
        return f"s3://{self.name}/{self.prefix}{name}"


class ReceiptStore:
    """The receipts of one root module.

    Args:
        terraform: The module's folder; a backend is only known where it is initialized.
        access: The way to the bucket.

    Raises:
        UsageError: What Terraform noted of its backend cannot be read.
    """

    def __init__(self, terraform: Path, access: Access) -> None:
        self.folder = receipts.folder_of(terraform)
        self.bucket = bucket_of(terraform, access.child_environment({}))
        self._caller = Caller(access, self.bucket.region if self.bucket else None).patient()

    def all(self) -> tuple[StoredReceipt, ...]:
        """Return every receipt, the oldest first; one that is in both places counts once.

        Raises:
            UsageError: One of them is not a receipt.
            AwsError: The bucket cannot be read.
        """
        by_name = {stored.path.name: stored for stored in receipts.load(self.folder)}
        for url, name, text in self.shared():
            # The bucket's copy may be the fresher one: the run may have been another machine's.
            by_name[name] = StoredReceipt(self.folder / name, receipts.decode(text, source=url))
        return tuple(sorted(by_name.values(), key=lambda stored: (stored.receipt.when, stored.path.name)))

    def shared(self) -> list[tuple[str, str, str]]:
        """Return URL, name and text of each receipt in the bucket; none where there is no bucket.

        Raises:
            AwsError: The bucket cannot be read.
        """
        if self.bucket is None:
            return []
        texts = list_texts(self._caller, self.bucket.name, self.bucket.prefix)
        return [(self.bucket.url(name), name, text) for name, text in texts.items()]

    def open(self, receipt: Receipt) -> StoredReceipt:
        """Store a new receipt.

        Raises:
            UsageError: The file cannot be written.
            AwsError: The bucket cannot be written: nothing may be done that it does not know of.
        """
        return self.put(StoredReceipt(receipts.new_path(self.folder, receipt), receipt))

    def put(self, stored: StoredReceipt) -> StoredReceipt:
        """Store a receipt, over its earlier form if there is one; the bucket first, because others read it.

        Raises:
            UsageError: The file cannot be written.
            AwsError: The bucket cannot be written.
        """
        self.share(stored)
        receipts.write(stored.path, stored.receipt)
        return stored

    def share(self, stored: StoredReceipt) -> None:
        """Write the bucket's copy of a receipt, where there is a bucket.

        Raises:
            AwsError: The bucket cannot be written.
        """
        if self.bucket is not None:
            text = receipts.encode(stored.receipt)
            put_text(self._caller, self.bucket.name, self.bucket.prefix + stored.path.name, text)


def bucket_of(folder: Path, environment: Mapping[str, str]) -> Bucket | None:
    """Return where the receipts of the initialized root module in *folder* lie in S3; None without a state there.

    All workspaces and keys of one folder of the bucket share it: versions that know of no states look there, and their
    clean-up must see every receipt.

    Args:
        folder: The root module.
        environment: Terraform's environment; ``TF_DATA_DIR`` counts.

    Raises:
        UsageError: What Terraform noted of its backend cannot be read.
    """
    config = (found := backends.location(folder, environment)).config
    name, key, region = (config.get(member) for member in ("bucket", "key", "region"))
    if found.backend != "s3" or not (isinstance(name, str) and isinstance(key, str)):
        return None
    return beside_state(name, key, region if isinstance(region, str) and region else None)


def beside_state(name: str, key: str, region: str | None) -> Bucket:
    """Return where receipts lie beside the state *key* in the bucket *name*."""
    parent, _, _ = key.rpartition("/")
    return Bucket(name, region, f"{parent}/{receipts.FOLDER}/" if parent else f"{receipts.FOLDER}/")

"""What EC2 does with AMIs in the background, and fast snapshot restore: only listed, from what was put there."""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult

from gpu_ami_sandbox.aws.ec2.part import EC2Part

_KINDS = ("root-volume", "export", "store", "fast-restore")


def tasks(backend: Any, kind: str) -> list[dict[str, Any]]:
    """Return the rows of one *kind* in a backend of moto's, to add to: root-volume, export, store or fast-restore."""
    if kind not in _KINDS:
        msg = f"no such kind of task: {kind}"
        raise ValueError(msg)
    kept: dict[str, list[dict[str, Any]]] = vars(backend).setdefault("sandbox_tasks", {})
    return kept.setdefault(kind, [])


class ImageTasks(EC2Part):
    """EC2's listings of such tasks."""

    def describe_replace_root_volume_tasks(self) -> ActionResult:
        """List the replacements of root volumes."""
        return self._answer_page("ReplaceRootVolumeTasks", tasks(self.ec2_backend, "root-volume"))

    def describe_export_image_tasks(self) -> ActionResult:
        """List the exports of AMIs."""
        return self._answer_page("ExportImageTasks", tasks(self.ec2_backend, "export"))

    def describe_store_image_tasks(self) -> ActionResult:
        """List the AMIs that were stored in S3, and those that are being stored."""
        return self._answer_page("StoreImageTaskResults", tasks(self.ec2_backend, "store"))

    def describe_fast_snapshot_restores(self) -> ActionResult:
        """List fast snapshot restores, one row for each snapshot and zone."""
        return self._answer_page("FastSnapshotRestores", tasks(self.ec2_backend, "fast-restore"))

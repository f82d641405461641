"""Allowed AMIs: the setting, and which AMIs of others it hides.

Criteria by watermark and scan result let nothing in here: none of the local AWS's AMIs has either.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.exceptions import InvalidAMIIdError

from gpu_ami_sandbox.aws.ec2.part import EC2Part, matches

_OFF, _ON = "disabled", "enabled"


@dataclass
class Setting:
    """The setting of one account and region: its state, and its criteria as the API has them."""

    state: str = _OFF
    criteria: list[dict[str, Any]] = field(default_factory=list)


def setting(backend: Any) -> Setting:
    """Return the setting in a backend of moto's, to change as well."""
    kept: Setting = vars(backend).setdefault("sandbox_allowed_images", Setting())
    return kept


def is_hidden(backend: Any, account: str, image: Any) -> bool:
    """Return whether the setting hides *image* from the account and refuses its launch."""
    return setting(backend).state == _ON and not _is_allowed(setting(backend), account, image)


def allowed(backend: Any, account: str, images: Iterable[Any], *, named: Sequence[str]) -> list[Any]:
    """Return those of *images* that are not hidden, each with the setting's verdict while that is on.

    Raises:
        InvalidAMIIdError: A request names a hidden one: to the account there is no such AMI.
    """
    found = setting(backend)
    kept = []
    for image in images:
        image.image_allowed = None if found.state == _OFF else _is_allowed(found, account, image)
        if found.state != _ON or image.image_allowed:
            kept.append(image)
        elif image.id in named:
            raise InvalidAMIIdError(image.id)
    return kept


def _is_allowed(found: Setting, account: str, image: Any) -> bool:
    return image.owner_id == account or any(_fits(criterion, image) for criterion in found.criteria)


def _fits(criterion: dict[str, Any], image: Any) -> bool:
    now = datetime.now(timezone.utc)
    given = {name: value for name, value in criterion.items() if value}
    conditions = {
        "ImageProviders": lambda value: bool({image.owner_id, image.owner_alias} & set(value)),
        "ImageNames": lambda value: matches([image.name or ""], value),
        "CreationDateCondition": lambda value: (
            now - _aware(image.creation_date) <= timedelta(days=int(value["MaximumDaysSinceCreated"]))
        ),
        "DeprecationTimeCondition": lambda value: (
            image.deprecation_time is None
            or now - _aware(datetime.fromisoformat(image.deprecation_time.replace("Z", "+00:00")))
            <= timedelta(days=int(value["MaximumDaysSinceDeprecated"]))
        ),
    }
    return bool(given) and all(name in conditions and conditions[name](value) for name, value in given.items())


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


class AllowedImages(EC2Part):
    """EC2's actions on the setting."""

    def get_allowed_images_settings(self) -> ActionResult:
        """Show it."""
        found = setting(self.ec2_backend)
        return ActionResult({"State": found.state, "ImageCriteria": found.criteria, "ManagedBy": "account"})

    def enable_allowed_images_settings(self) -> ActionResult:
        """Switch it on, or to its audit mode, which hides nothing."""
        self.error_on_dryrun()
        state = setting(self.ec2_backend).state = str(self._get_param("AllowedImagesSettingsState"))
        return ActionResult({"AllowedImagesSettingsState": state})

    def disable_allowed_images_settings(self) -> ActionResult:
        """Switch it off; the criteria stay."""
        self.error_on_dryrun()
        setting(self.ec2_backend).state = _OFF
        return ActionResult({"AllowedImagesSettingsState": _OFF})

    def replace_image_criteria_in_allowed_images_settings(self) -> ActionResult:
        """Set the criteria, all of them."""
        self.error_on_dryrun()
        setting(self.ec2_backend).criteria = list(self._get_param("ImageCriteria", []))
        return ActionResult({"ReturnValue": True})

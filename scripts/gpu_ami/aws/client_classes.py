"""Makes botocore's class of a service's client once for all regions, and looks the names of its events up once.

botocore makes both anew for each client. A clean-up has a client for each service in each region: without this a fifth
of what another region costs the processor are classes with hundreds of methods that are there already.
"""

from __future__ import annotations

from typing import Any, cast

from botocore.client import ClientCreator
from botocore.hooks import EventAliaser


class SharedEvents(EventAliaser):
    """A session's events, copied for each of its clients as botocore does; what never differs is shared by the copies.

    Attributes:
        classes: The class of each service's client, by service and API version: made with this session's handlers.
    """

    classes: dict[tuple[str, str], Any]

    def __copy__(self) -> SharedEvents:
        """Return a copy for another client."""
        made: Any = super().__copy__()
        mine: Any = self
        made._alias_name_cache = mine._alias_name_cache
        made.classes = mine.classes
        return cast("SharedEvents", made)


def share(session: Any) -> None:
    """Let the clients of the botocore *session* share their classes; other sessions are left as they are."""
    events: Any = session.get_component("event_emitter")
    if not isinstance(events, SharedEvents):
        events.__class__ = SharedEvents
        events.classes = {}
    _Creator._create_client_class = _shared


# Without type information: the method is botocore's own business.
_Creator: Any = ClientCreator
_made_anew = _Creator._create_client_class


def _shared(creator: Any, service_name: str, service_model: Any) -> Any:
    events = creator._event_emitter
    if not isinstance(events, SharedEvents):
        return _made_anew(creator, service_name, service_model)
    key = (service_name, service_model.api_version)
    if key not in events.classes:
        events.classes[key] = _made_anew(creator, service_name, service_model)
    return events.classes[key]

"""Makes botocore's class and model of a service once for all regions, and looks the names of its events up once.

botocore makes them anew for each client. A clean-up has a client for each service in each region: without this a fifth
of what another region costs the processor are classes with hundreds of methods that are there already.
"""

from __future__ import annotations

import copy
from typing import Any, cast

from botocore import hooks
from botocore.client import ClientCreator
from botocore.hooks import EventAliaser

# Without type information: botocore's own business.
_hooks: Any = hooks
_PrefixTrie: Any = _hooks._PrefixTrie
_MIDDLE: Any = _hooks._MIDDLE


class SharedEvents(EventAliaser):
    """A session's events, copied for each of its clients as botocore does; what never differs is shared by the copies.

    Attributes:
        classes: The class of each service's client, by service and API version: made with this session's handlers.
        models: What botocore makes of a service's model, by service and API version. It grows with each operation that
            is called, by the shapes of its answers; they are the same everywhere.
    """

    classes: dict[tuple[str, str], Any]
    models: dict[tuple[str, str | None], Any]

    def __copy__(self) -> SharedEvents:
        """Return a copy for another client."""
        made: Any = super().__copy__()
        mine: Any = self
        made._alias_name_cache = mine._alias_name_cache
        made.classes = mine.classes
        made.models = mine.models
        return cast("SharedEvents", made)


class SharedTrie(_PrefixTrie):  # type: ignore[misc]
    """The handlers of a session's events, of which copies share whatever is not changed in one of them.

    botocore copies all of it for each client, which then adds a handful: it is most of what a client takes.
    """

    def __copy__(self) -> SharedTrie:
        """Return a copy: what is changed in it, or here, is made anew there."""
        made, mine = SharedTrie(), cast("Any", self)
        made._root = mine._root
        return made

    def append_item(self, key: str, value: Any, section: Any = _MIDDLE) -> None:
        """Add an item to a key."""
        self._renew(key)
        super().append_item(key, value, section)

    def remove_item(self, key: str, value: Any) -> None:
        """Remove an item from a key.

        Raises:
            ValueError: It is not there.
        """
        self._renew(key)
        super().remove_item(key, value)

    def _renew(self, key: str) -> None:
        """Make the nodes on the way to *key* anew, so that no copy sees what is changed in them."""
        mine: Any = self
        node: Any = dict(mine._root)
        mine._root = node
        for part in key.split("."):
            children = dict(node["children"])
            node["children"] = children
            if part not in children:
                return
            node = dict(children[part])
            node["values"] = copy.copy(node["values"])
            children[part] = node
        node["children"] = dict(node["children"])


def share(session: Any) -> None:
    """Let the clients of the botocore *session* share their classes; other sessions are left as they are."""
    events: Any = session.get_component("event_emitter")
    if not isinstance(events, SharedEvents):
        events.__class__ = SharedEvents
        events.classes = {}
        events.models = {}
        handlers = events._emitter._handlers
        if type(handlers) is _PrefixTrie:
            handlers.__class__ = SharedTrie
    _Creator._create_client_class = _shared
    _Creator._load_service_model = _shared_model


# Without type information: the method is botocore's own business.
_Creator: Any = ClientCreator
_made_anew = _Creator._create_client_class
_read_anew = _Creator._load_service_model


def _shared(creator: Any, service_name: str, service_model: Any) -> Any:
    events = creator._event_emitter
    if not isinstance(events, SharedEvents):
        return _made_anew(creator, service_name, service_model)
    key = (service_name, service_model.api_version)
    if key not in events.classes:
        events.classes[key] = _made_anew(creator, service_name, service_model)
    return events.classes[key]


def _shared_model(creator: Any, service_name: str, api_version: str | None = None) -> Any:
    events = creator._event_emitter
    if not isinstance(events, SharedEvents):
        return _read_anew(creator, service_name, api_version)
    key = (service_name, api_version)
    if key not in events.models:
        events.models[key] = _read_anew(creator, service_name, api_version)
    return events.models[key]

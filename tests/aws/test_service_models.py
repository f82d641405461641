"""The short way to botocore's models ends where the long one does."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import botocore.loaders
import pytest
from botocore.exceptions import DataNotFoundError, UnknownServiceError

from gpu_ami.aws.service_models import Files, ServiceModels, service_models


@pytest.mark.parametrize("kind", ["service-2", "paginators-1", "waiters-2"])
def test_a_model_is_the_one_that_botocore_loads(kind: str) -> None:
    """Only the way there is shorter."""
    expected = botocore.loaders.create_loader().load_service_model("ec2", kind)

    assert service_models().load_service_model("ec2", kind) == expected


def test_a_service_that_nobody_knows_is_named_as_unknown() -> None:
    """A wrong name must not be taken for a broken installation."""
    with pytest.raises(UnknownServiceError, match="no-such-service"):
        service_models().load_service_model("no-such-service", "service-2")


def test_a_kind_of_model_that_a_service_lacks_is_not_found() -> None:
    """Botocore's callers expect this error for a service without waiters."""
    with pytest.raises(DataNotFoundError):
        service_models().load_service_model("sts", "waiters-2")


def test_a_folder_of_the_users_own_is_searched_too(tmp_path: Path) -> None:
    """AWS_DATA_PATH is how people try a model that botocore does not have yet."""
    model: dict[str, object] = {"metadata": {}, "operations": {}, "shapes": {}}
    folder = tmp_path / "mine" / "2026-01-01"
    folder.mkdir(parents=True)
    (folder / "service-2.json").write_text(json.dumps(model))

    found = service_models(str(tmp_path))

    assert found.load_service_model("mine", "service-2") == model
    assert "ec2" in found.list_available_services("service-2")


def test_a_folder_that_is_searched_later_counts(tmp_path: Path) -> None:
    """boto3 adds one of its own after botocore has made the loader."""
    loader = ServiceModels()
    assert "mine" not in loader.list_available_services("service-2")
    (tmp_path / "mine").mkdir()

    loader.search_paths.append(str(tmp_path))

    assert "mine" in loader.list_available_services("service-2")


def test_threads_that_begin_with_a_service_read_its_model_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of a fleet's two hundred read EC2's 10 MB by itself: twice the memory of all the rest."""
    read: list[str] = []
    load = Files._load_file

    def slowly(self: Files, full_path: str, open_method: Any) -> Any:
        found = load(self, full_path, open_method)
        if found is not None:
            read.append(full_path)
            begun.wait(0.2)
        return found

    monkeypatch.setattr(Files, "_load_file", slowly)
    begun = threading.Event()
    usual = botocore.loaders.create_loader()
    models = ServiceModels(extra_search_paths=list(usual.search_paths), include_default_search_paths=False)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: models.load_service_model("sts", "service-2"), range(8)))

    assert len(read) == len(set(read))
    assert all(one is found[0] for one in found)

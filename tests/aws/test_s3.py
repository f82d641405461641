"""Listings of S3: what is not whole is never taken for less."""

from __future__ import annotations

import pytest

from gpu_ami.aws.caller import UnansweredError
from gpu_ami.aws.s3 import list_texts, model_objects
from tests.support.fake_caller import FakeCaller


def test_an_answer_that_does_not_say_whether_it_is_whole_is_no_listing() -> None:
    """A proxy's page parses to an empty answer: "no receipts" would let the AMI go that one of them protects."""
    for answer in ({}, {"ResponseMetadata": {"HTTPStatusCode": 200}}):
        with pytest.raises(UnansweredError, match="cut off"):
            list_texts(FakeCaller({"list_objects_v2": [answer]}), "state", "receipts/")


def test_an_empty_listing_is_one() -> None:
    """S3 leaves the list out where there is nothing."""
    assert list_texts(FakeCaller({"list_objects_v2": [{"IsTruncated": False}]}), "state", "receipts/") == {}


def test_every_page_of_the_models_counts() -> None:
    """A model that is not seen would make no AMI stale."""
    pages = [
        {"IsTruncated": True, "NextContinuationToken": "1", "Contents": [{"Key": "models/a", "Size": 1, "ETag": "x"}]},
        {"IsTruncated": False, "Contents": [{"Key": "models/", "Size": 0, "ETag": "y"}]},
    ]

    assert [model.key for model in model_objects(FakeCaller({"list_objects_v2": [*pages]}), "bucket")] == ["a"]

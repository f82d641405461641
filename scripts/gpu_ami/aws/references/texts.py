"""What the sources share that find ids in texts: values, variables, definitions and inputs that people wrote.

Such a text may be about anything, so an id in it is a mention: it keeps its AMI and is no proof that uses are seen. It
may also be a secret. So of a text nothing is kept but the ids and where they stand, and nothing is shown but names.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from gpu_ami.aws.references.source import Reference, ids_in, strings_in
from gpu_ami.errors import AwsError

# Where in a text's thing an id stands, and the id.
Mentions = tuple[tuple[str, str], ...]


def mentions_in(document: object) -> Mentions:
    """Return each id anywhere in *document*, whatever its keys are called, with the path to it."""
    return tuple((path, target) for path, text in strings_in(document, without=()) for target in sorted(ids_in(text)))


def mentioned(mentions: Mentions, source: str, who: str) -> list[Reference]:
    """Return *mentions* as references of *source*, said to be made by *who*."""
    return [Reference(target, source, f"{who}: {path}") for path, target in mentions]


@contextlib.contextmanager
def reading(who: str) -> Iterator[None]:
    """Let an error of AWS's begin with *who* was being read, such as ``state machine render``."""
    try:
        yield
    except AwsError as exc:
        exc.args = (f"{who}: {exc}",)
        raise


def way_round(source: str) -> str:
    """Return what to do where texts of *source* are encrypted with a key that the caller may not use."""
    return f"Allow kms:Decrypt on its key, or leave all of them out with --skip-source {source}."

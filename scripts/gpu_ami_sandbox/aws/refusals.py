"""The local AWS's error responses: an AWS error code and message."""

from __future__ import annotations

from typing import NoReturn

from moto.core.exceptions import ServiceException


class RefusalError(ServiceException):
    """An error that AWS answers with; the protocol of the service decides its form."""


def refuse(code: str, message: str) -> NoReturn:
    """Answer the request with AWS's error *code*."""
    raise RefusalError(code, message)

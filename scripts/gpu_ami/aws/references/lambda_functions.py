"""Lambda: what the environment variables of functions name, as of those that launch or update something."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpu_ami.aws.caller import Caller, UnansweredError
from gpu_ami.aws.references.source import Found, Reference, SourceQuery, members
from gpu_ami.aws.references.texts import looked_up, mentioned, mentions_in, way_round

_NEWEST = "$LATEST"
_SHOWN = 3


class LambdaFunctions:
    """All functions and all their published versions, which one listing has: an alias may lead to any of them.

    A function without variables comes without an environment. One with variables that cannot be decrypted has
    ``Environment.Error`` in their place (API reference of EnvironmentResponse), and then the source has failed.
    """

    name = "lambda-functions"
    service = "lambda"
    is_essential = False
    is_use = False
    reads = members("lambda:ListFunctions", "Functions[].Environment.Variables{}")

    def find(self, caller: Caller, query: SourceQuery) -> Found:
        """Return what the variables of each function and version name."""
        del query
        rows = caller.pages(
            "lambda", "list_functions", "Functions", page_key="Marker", next_key="NextMarker", FunctionVersion="ALL"
        )
        references: list[Reference] = []
        masked: dict[str, str] = {}
        for row in rows:
            environment = row.get("Environment")
            if environment is None:
                continue
            if error := environment.get("Error"):
                masked[_name(row)] = str(error.get("ErrorCode"))
                continue
            references += mentioned(
                mentions_in(_variables(row, environment)), self.name, f"Lambda function {_name(row)}"
            )
        if masked:
            raise UnansweredError(_masked(masked))
        return looked_up(caller, references)


def _variables(row: Mapping[str, Any], environment: Mapping[str, Any]) -> Mapping[str, str]:
    variables = environment.get("Variables")
    if not isinstance(variables, Mapping) or not all(isinstance(value, str) for value in variables.values()):
        msg = f"Lambda function {_name(row)}: the environment came without its variables: it is cut off or malformed."
        raise UnansweredError(msg)
    return {f"variable {key}": value for key, value in variables.items()}


def _masked(functions: Mapping[str, str]) -> str:
    """Return what is wrong with *functions*, which are AWS's codes by their names; AWS's words stay out of it."""
    names, codes = sorted(functions), ", ".join(sorted(set(functions.values())))
    shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    return f"Lambda function {shown}: the variables come encrypted ({codes}). {way_round(LambdaFunctions.name)}"


def _name(row: Mapping[str, Any]) -> str:
    name, version = row["FunctionName"], row.get("Version", _NEWEST)
    return str(name) if version == _NEWEST else f"{name} version {version}"

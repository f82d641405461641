"""CodeBuild: the AMIs of reserved-capacity fleets."""

from __future__ import annotations

from collections.abc import Sequence

from gpu_ami.aws.caller import Caller, UnansweredError
from gpu_ami.aws.references.reading import chunks, joined, names, needed
from gpu_ami.aws.references.source import Found, Reference, SourceQuery, members, references_in

_MOST_NAMES = 100


class CodeBuildFleets:
    """Fleets in every state: each machine that joins one starts from its AMI."""

    name = "codebuild"
    service = "codebuild"
    is_essential = False
    is_use = True
    reads = members("codebuild:BatchGetFleets", "fleets[].imageId")

    def find(self, caller: Caller, query: SourceQuery) -> Found:
        """Return the AMI of each fleet that has one of its own."""
        del query
        listed = names(caller, "codebuild", "list_fleets", "fleets", maxResults=100)
        return Found(joined(chunks(listed, _MOST_NAMES), lambda some: _references(caller, some)))


def _references(caller: Caller, arns: Sequence[str]) -> list[Reference]:
    answer = caller.call("codebuild", "batch_get_fleets", names=list(arns))
    rows = needed(answer, "fleets", f"codebuild:BatchGetFleets in {caller.region}")
    # A fleet that was deleted since it was listed is said not to be there.
    told = {row.get("arn") for row in rows} | set(answer.get("fleetsNotFound") or ())
    if missing := sorted(set(arns) - told):
        msg = f"codebuild:BatchGetFleets in {caller.region} said nothing about {missing[0]}: the answer is cut off."
        raise UnansweredError(msg)
    return [
        reference
        for row in rows
        if row.get("imageId")
        for reference in references_in(row["imageId"], CodeBuildFleets.name, f"CodeBuild fleet {row['name']}: imageId")
    ]

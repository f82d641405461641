"""What the sources share that find ids in texts: values, variables, definitions and inputs that people wrote.

Such a text may be about anything, so an id in it is a mention: it keeps its AMI and is no proof that uses are seen. It
may also be a secret. So of a text nothing is kept but the ids, the names of SSM parameters that stand for ids, and
where they stand, and nothing is shown but names.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator

from gpu_ami.aws.caller import Caller
from gpu_ami.aws.references.aliases import resolve_each
from gpu_ami.aws.references.source import ALIAS, Found, Reference, ids_in, strings_in
from gpu_ami.errors import AwsError
from gpu_ami.foreign_text import limited

# In JSON in JSON each backslash is one of two, or of four.
_ESCAPED = re.compile(r"(?<!\\)\\+/")
# What SSM can be asked about: anything else it may not even name in its answer.
_NAME = re.compile(r"(?:arn:[\w-]+:ssm:[\w-]*:\d*:parameter)?[\w./-]+(?::[\w.-]+)?", re.ASCII)

# Where in a text's thing an id stands, and the id; or ``resolve:ssm:NAME`` in its place.
Mentions = tuple[tuple[str, str], ...]
# As EC2 takes a parameter for an AMI and CloudFormation for a value (``{{resolve:ssm:NAME:VERSION}}``), and as SSM's
# own documents do (``{{ssm:NAME:VERSION}}``). Of a name alone the source `parameters` reads the value, too; what a
# version or a label stands for nothing else does.
_PARAMETER = re.compile(r"(?:resolve:|\{\{ ?)ssm:([\w./:-]{1,2048})", re.ASCII)


def named_in(text: str) -> list[str]:
    """Return each AMI and snapshot id in *text*, and each SSM parameter that stands there for one.

    A parameter is ``resolve:ssm:NAME``, with its version or label, for `looked_up`. In JSON a slash may be escaped.
    """
    names = {name.rstrip(":/") for name in _PARAMETER.findall(_ESCAPED.sub("/", text))}
    return [*sorted(ids_in(text)), *(f"{ALIAS}{name}" for name in sorted(names) if name)]


def looked_up(caller: Caller, found: Iterable[Reference], notes: Iterable[str] = ()) -> Found:
    """Return *found* with what each SSM parameter stands for in its place, and *notes*.

    A text may be about anything, so a name that SSM does not know, or refuses, is no more than a note.

    Raises:
        AwsError: SSM gave no usable answer.
    """
    references = list(found)
    plain = [reference for reference in references if not reference.target.startswith(ALIAS)]
    named = [(one, one.target.removeprefix(ALIAS)) for one in references if one.target.startswith(ALIAS)]
    values, refused = resolve_each(caller, {form for _, name in named for form in _forms(name)})
    said = list(notes)
    for reference, name in named:
        known = [form for form in _forms(name) if form in values]
        targets = sorted({target for form in known for target in ids_in(values[form])})
        shown = limited(name)
        detail = f"{reference.detail}, SSM parameter {shown}"
        plain += [Reference(target, reference.source, detail) for target in targets]
        if not known:
            why = f"could not be read ({refused[name]})" if name in refused else "does not exist"
            said.append(f"{reference.detail} names the SSM parameter {shown}, which {why}")
    return Found(plain, list(dict.fromkeys(said)))


def _forms(name: str) -> set[str]:
    """Return what *name* may be: the dot at its end may be the end of a sentence, and all of it no name at all."""
    return {form for form in (name, name.rstrip(".")) if _NAME.fullmatch(form)}


def mentions_in(document: object) -> Mentions:
    """Return what `named_in` finds anywhere in *document*, whatever its keys are called, with the path to it."""
    return tuple((path, target) for path, text in strings_in(document, without=()) for target in named_in(text))


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
    return f"Allow kms:Decrypt on its key. To do without, name {source} in cleanup.skip_sources in pipeline.yaml."

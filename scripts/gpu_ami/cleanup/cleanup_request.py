"""What the caller of `invoke cleanup` requested, and which of its flags contradict each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gpu_ami.cleanup.policy import Flags
from gpu_ami.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the caller of ``invoke cleanup`` requested, beside the policy.

    Attributes:
        flags: What decides.
        regions: Regions, or ``all``; empty takes the settings'.
        accounts: Roles in other accounts, beside the settings'.
        orphans: Whether to find orphan snapshots.
        plan: Where to write the plan.
        apply: The plan to carry out.
        restore: The journal to undo.
        yes: Whether to act.
        permanent: Whether what cannot be brought back may go.
        make_public: Whether what everybody could launch before may be such again when it is brought back.
        fleet: Whether the accounts of the fleet are planned for together.
        list: The list of the fleet by which its parts were made; None where it is read here.
        references: The files of the parts, and folders with some.
        owners: With a fleet's plan to carry out, the accounts whose AMIs go; empty for all.
        all: Whether each AMI that stays is shown.
        wide: Whether the verdict on each AMI is shown with every reason in full.
    """

    flags: Flags = field(default_factory=Flags)
    regions: Sequence[str] = ()
    accounts: Sequence[str] = ()
    orphans: bool = False
    plan: str | None = None
    apply: str | None = None
    restore: str | None = None
    yes: bool = False
    permanent: bool = False
    make_public: bool = False
    fleet: bool = False
    list: str | None = None
    references: Sequence[str] = ()
    owners: Sequence[str] = ()
    all: bool = False
    wide: bool = False

    @property
    def of_one_family(self) -> Mapping[str, bool]:
        """Which flags were given that name one file, or a scope that is no family's."""
        flags = self.flags
        return {
            "--plan": self.plan is not None,
            "--apply": self.apply is not None,
            "--restore": self.restore is not None,
            "--name": flags.name is not None,
            "--tag": bool(flags.tag),
            "--all-owned": flags.all_owned,
            "--list": self.list is not None,
        }

    def check(self) -> None:
        """Refuse flags that contradict each other.

        Raises:
            UsageError: They do.
        """
        if self.apply and (self.plan or self.orphans or self.regions or self.accounts or self.flags != Flags()):
            msg = "--apply takes everything from its plan: leave out the other flags but --permanent."
            raise UsageError(msg)
        if self.restore and (self.plan or self.apply or self.orphans or self.yes or self.flags != Flags()):
            msg = "--restore takes everything from its journal: leave out the other flags but --make-public."
            raise UsageError(msg)
        self._check_parts()
        if self.make_public and not self.restore:
            msg = "--make-public is about what --restore brings back: add --restore JOURNAL, or leave it out."
            raise UsageError(msg)

    def _check_parts(self) -> None:
        if self.owners and not (self.fleet and self.apply):
            msg = "--owner is about a fleet's plan that is carried out: add --fleet --apply FILE, or leave it out."
            raise UsageError(msg)
        if self.list is None and not self.references:
            return
        if not self.fleet or self.list is None or not self.references:
            msg = (
                "A fleet's parts are put together with --fleet --list FILE --references PATH: give all three, or none."
            )
            raise UsageError(msg)
        others = {"--yes": self.yes, "--apply": bool(self.apply), "--restore": bool(self.restore)}
        if given := next((flag for flag, is_given in others.items() if is_given), None):
            msg = f"{given} does not go with --references, which changes nothing: write --plan FILE, and carry it out."
            raise UsageError(msg)
        if self.regions:
            msg = "--regions does not go with --list, which has the regions: give it to `invoke fleet --out`."
            raise UsageError(msg)

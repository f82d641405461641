"""The arithmetic of a baked AMI: what a launch saves, what a month costs, when it pays.

Pure, in Decimal, with the unit in each name; None is unknown. What is billed how is AWS's documentation: EC2 by the
second, EBS volumes and snapshots by the month of 730 hours, NAT gateways and endpoints by the GB. What a baked AMI does
not save is the storage of the container image and the models: the originals stay in ECR and S3.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from gpu_ami.cost.figure import Number, negative, product, total

HOURS_PER_MONTH = Decimal(730)
SECONDS_PER_HOUR = Decimal(3600)
# What a gp3 volume has without paying for more (EBS user guide).
GP3_FREE_IOPS = Decimal(3000)
GP3_FREE_MIB_S = Decimal(125)

Never = Literal["never"]
# Launches or jobs a month; None is unknown.
BreakEven = Decimal | Never | None


@dataclass(frozen=True, kw_only=True)
class Launch:
    """One instance that starts, without the AMI (stock) and with it (baked).

    Attributes:
        stock_boot_s: From launch to a ready ECS agent, stock AMI.
        pull_s: The container image's pull, stock AMI.
        models_s: The models' download, stock AMI.
        baked_boot_s: From launch to a ready ECS agent, baked AMI.
        lazy_load_s: What the first job waits for blocks that its volume still has to read from S3, baked AMI.
        instance_usd_per_hour: The instance.
        avoided_gb: What is not downloaded any more.
        path_usd_per_gb: What the way of these bytes costs: NAT gateway, interface endpoint, or nothing.
        hydrated_gib: Data in the snapshot, all of it read in at the provisioned rate.
        initialization_mib_s: Provisioned rate for volume initialization; 0 is none.
        initialization_usd_per_gib_mib_s: Its price.
        extra_root_gib: By how much the baked root volume is larger.
        instance_life_h: How long an instance runs, and its root volume is billed.
        gp3_usd_per_gib_month: The root volume.
    """

    stock_boot_s: Number
    pull_s: Number
    models_s: Number
    baked_boot_s: Number
    lazy_load_s: Number
    instance_usd_per_hour: Number
    avoided_gb: Number
    path_usd_per_gb: Number
    hydrated_gib: Number
    initialization_mib_s: Number
    initialization_usd_per_gib_mib_s: Number
    extra_root_gib: Number
    instance_life_h: Number
    gp3_usd_per_gib_month: Number

    @property
    def stock_s(self) -> Number:
        """Cold start without the AMI."""
        return total(self.stock_boot_s, self.pull_s, self.models_s)

    @property
    def baked_s(self) -> Number:
        """Cold start with the AMI."""
        return total(self.baked_boot_s, self.lazy_load_s)

    @property
    def saved_s(self) -> Number:
        """What each launch waits less; negative when the AMI makes it slower."""
        return total(self.stock_s, negative(self.baked_s))

    @property
    def hydration_usd(self) -> Number:
        """The provisioned initialization of one root volume: data x rate x price."""
        return product(self.hydrated_gib, self.initialization_mib_s, self.initialization_usd_per_gib_mib_s)

    @property
    def extra_root_usd(self) -> Number:
        """The larger root volume over an instance's life."""
        return product(self.extra_root_gib, self.gp3_usd_per_gib_month, self.instance_life_h, 1 / HOURS_PER_MONTH)

    @property
    def network_usd(self) -> Number:
        """The way of the bytes that are not downloaded any more."""
        return product(self.avoided_gb, self.path_usd_per_gb)

    @property
    def stock_usd(self) -> Number:
        """A cold start without the AMI: the instance's time and the network."""
        return total(time_usd(self.stock_s, self.instance_usd_per_hour), self.network_usd)

    @property
    def baked_usd(self) -> Number:
        """A cold start with the AMI: the instance's time, the hydration and the larger volume."""
        waiting = time_usd(self.baked_s, self.instance_usd_per_hour)
        return total(waiting, self.hydration_usd, self.extra_root_usd)

    @property
    def saved_usd(self) -> Number:
        """What each launch costs less; negative when the AMI makes it dearer."""
        return total(self.stock_usd, negative(self.baked_usd))


@dataclass(frozen=True, kw_only=True)
class Storage:
    """The AMIs that are kept. An AMI itself is free; its snapshots are billed for the data in them.

    Attributes:
        retained_amis: How many are kept, the one in use included.
        billed_gib: Data in the snapshots of one. A bake from an AMI of another account is a full snapshot each time.
        snapshot_usd_per_gib_month: Standard tier.
        copies: Further regions that hold a copy of each, at the same price.
    """

    retained_amis: Number
    billed_gib: Number
    snapshot_usd_per_gib_month: Number
    copies: Number

    @property
    def usd_per_month(self) -> Number:
        """All snapshots in all regions."""
        regions = total(Decimal(1), self.copies)
        return product(self.retained_amis, regions, self.billed_gib, self.snapshot_usd_per_gib_month)


@dataclass(frozen=True, kw_only=True)
class Build:
    """One build of the AMI.

    Attributes:
        build_min: How long the builder runs.
        builder_usd_per_hour: The builder.
        builder_gib: Its gp3 volume.
        builder_iops: The volume's IOPS.
        builder_mib_s: The volume's throughput.
        gp3_usd_per_gib_month: The volume's price, by size.
        gp3_usd_per_iops_month: By IOPS above 3,000.
        gp3_usd_per_mib_s_month: By throughput above 125 MiB/s.
        ipv4_usd_per_hour: The builder's public address.
        builder_gb: What it downloads.
        path_usd_per_gb: What the way of these bytes costs.
        failed_share: Share of builds that fail, 0 to below 1; they cost as much and bring nothing.
        ci_min: Minutes of a paid CI runner for each build.
        ci_usd_per_min: The runner.
    """

    build_min: Number
    builder_usd_per_hour: Number
    builder_gib: Number
    builder_iops: Number
    builder_mib_s: Number
    gp3_usd_per_gib_month: Number
    gp3_usd_per_iops_month: Number
    gp3_usd_per_mib_s_month: Number
    ipv4_usd_per_hour: Number
    builder_gb: Number
    path_usd_per_gb: Number
    failed_share: Number
    ci_min: Number
    ci_usd_per_min: Number

    @property
    def volume_usd_per_hour(self) -> Number:
        """The builder's volume."""
        monthly = total(
            product(self.builder_gib, self.gp3_usd_per_gib_month),
            product(_above(self.builder_iops, GP3_FREE_IOPS), self.gp3_usd_per_iops_month),
            product(_above(self.builder_mib_s, GP3_FREE_MIB_S), self.gp3_usd_per_mib_s_month),
        )
        return product(monthly, 1 / HOURS_PER_MONTH)

    @property
    def run_usd(self) -> Number:
        """One run of the builder, whether it succeeds or not."""
        hourly = total(self.builder_usd_per_hour, self.volume_usd_per_hour, self.ipv4_usd_per_hour)
        return total(
            product(self.build_min, hourly, 1 / Decimal(60)),
            product(self.builder_gb, self.path_usd_per_gb),
            product(self.ci_min, self.ci_usd_per_min),
        )

    @property
    def usd(self) -> Number:
        """One AMI, the failed builds before it included."""
        return None if self.failed_share is None else product(self.run_usd, 1 / (1 - self.failed_share))


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way to run things for a month.

    Attributes:
        launch: One instance that starts.
        storage: The AMIs that are kept.
        build: One build.
        builds_per_month: AMIs built.
        cross_region_usd_per_gb: What copying an AMI to another region costs.
        fsr_hours_per_month: Hours of Fast Snapshot Restore, summed over zones.
        fsr_usd_per_hour: Its price for one snapshot in one zone.
        jobs_per_month: Jobs.
        jobs_per_instance: Jobs that one instance runs before it ends: Batch reuses instances.
    """

    launch: Launch
    storage: Storage
    build: Build
    builds_per_month: Number
    cross_region_usd_per_gb: Number
    fsr_hours_per_month: Number
    fsr_usd_per_hour: Number
    jobs_per_month: Number
    jobs_per_instance: Number

    @property
    def launches_per_month(self) -> Number:
        """Cold starts: what is saved is saved per launch, not per job."""
        if self.jobs_per_month is None or not self.jobs_per_instance:
            return None
        return self.jobs_per_month / self.jobs_per_instance

    @property
    def fixed_usd_per_month(self) -> Number:
        """What the AMI costs however little it is used: snapshots, builds, copies, Fast Snapshot Restore."""
        copied = product(
            self.builds_per_month, self.storage.copies, self.storage.billed_gib, self.cross_region_usd_per_gb
        )
        return total(
            self.storage.usd_per_month,
            product(self.builds_per_month, self.build.usd),
            copied,
            product(self.fsr_hours_per_month, self.fsr_usd_per_hour),
        )

    @property
    def break_even_launches(self) -> BreakEven:
        """Launches a month at which saving and cost are equal; ``never`` when a launch saves nothing."""
        return break_even(self.fixed_usd_per_month, self.launch.saved_usd)

    @property
    def break_even_jobs(self) -> BreakEven:
        """Jobs a month at which saving and cost are equal."""
        launches = self.break_even_launches
        if launches is None or launches == "never" or self.jobs_per_instance is None:
            return launches if launches == "never" else None
        return launches * self.jobs_per_instance

    def net_usd_per_month(self, launches: Number) -> Number:
        """Return what the AMI saves in a month of *launches*, its own cost taken off."""
        return total(product(launches, self.launch.saved_usd), negative(self.fixed_usd_per_month))


def time_usd(seconds: Number, usd_per_hour: Number) -> Number:
    """Return what *seconds* of an instance cost."""
    return product(seconds, usd_per_hour, 1 / SECONDS_PER_HOUR)


def break_even(fixed_usd: Number, saved_usd: Number) -> BreakEven:
    """Return how many times *saved_usd* make up for *fixed_usd*: the root of the net curve."""
    if saved_usd is None or fixed_usd is None:
        return None
    return fixed_usd / saved_usd if saved_usd > 0 else "never"


def _above(amount: Number, free: Decimal) -> Number:
    return None if amount is None else max(amount - free, Decimal(0))

"""What a verification may cost is said before it begins: an upper bound, with all that EC2 bills."""

from __future__ import annotations

from decimal import Decimal

import pytest

from gpu_ami.aws.images import Image
from gpu_ami.aws.instances import RootVolume
from gpu_ami.measure.price import Disk, disk_of, disk_to_be, price_of, usd

SEOUL, TYPES = "ap-northeast-2", ("g5.xlarge",)
PLAIN = Disk(size_gib=80, data_gib=40.0, rate_mib_s=None)
RATED = Disk(size_gib=80, data_gib=40.0, rate_mib_s=300)


def test_the_rate_is_billed_by_the_data_whatever_the_time() -> None:
    """A third of the price: 40 GiB at 300 MiB/s, due in full although the volume lives for minutes."""
    for minutes in (1, 45):
        plain, rated = (usd(SEOUL, TYPES, disk, minutes) for disk in (PLAIN, RATED))
        assert plain is not None
        assert rated is not None
        assert float(rated - plain) == pytest.approx(40 * 300 * 0.00001368, abs=1e-4)


def test_the_bound_is_the_dearest_type_for_the_longest_time() -> None:
    """Which type has room is known only then."""
    both = price_of(SEOUL, ("g4dn.xlarge", "g5.xlarge"), RATED, longest_min=45)
    one = price_of(SEOUL, ("g5.xlarge",), RATED, longest_min=45)

    assert both == one
    assert both.worst_usd is not None
    assert both.likely_usd is not None
    assert both.worst_usd > both.likely_usd > 0
    assert str(both).startswith("about $")


def test_the_bound_counts_the_boot_too() -> None:
    """The 45 minutes are counted from cloud-init's last stage, and EC2 bills from the instance's start."""
    price = price_of(SEOUL, TYPES, RATED, longest_min=45)

    assert price.worst_usd == usd(SEOUL, TYPES, RATED, 50)
    assert price.likely_usd == usd(SEOUL, TYPES, RATED, 8)


def test_more_than_gp3_has_for_nothing_is_billed() -> None:
    """Batch's volumes have 500 MiB/s."""
    fast = Disk(size_gib=80, data_gib=40.0, rate_mib_s=None, throughput_mib_s=500)

    assert (usd(SEOUL, TYPES, fast, 45) or Decimal(0)) > (usd(SEOUL, TYPES, PLAIN, 45) or Decimal(0))


@pytest.mark.parametrize(("region", "types"), [(SEOUL, ("g99.xlarge", "g5.xlarge")), ("xx-nowhere-1", TYPES)])
def test_one_unknown_price_makes_the_bound_unknown(region: str, types: tuple[str, ...]) -> None:
    """A bound that leaves something out is none."""
    price = price_of(region, types, RATED, longest_min=45)

    assert (price.worst_usd, str(price)) == (None, "its price is not known")


@pytest.mark.parametrize(
    ("tag", "data_gib"),
    [("28.12", 28.12), ("", 80.0), ("much", 80.0), ("0", 80.0), ("-3", 80.0), ("900", 80.0), ("nan", 80.0)],
)
def test_what_the_amis_tag_says_counts_where_it_can(tag: str, data_gib: float) -> None:
    """A tag is anybody's: what makes no sense is taken for a full volume, which costs more."""
    image = Image(image_id="ami-1", region=SEOUL, root_gib=80, tags={"gpu-ami:snapshot-gib": tag})

    disk = disk_of(image, RootVolume(device="/dev/xvda", size_gib=100, rate_mib_s=200, throughput_mib_s=500))

    assert disk == Disk(size_gib=100, data_gib=data_gib, rate_mib_s=200, throughput_mib_s=500)
    assert disk_of(image, RootVolume(device="/dev/xvda")).size_gib == 80


def test_a_disk_that_is_still_to_be_is_taken_to_be_full() -> None:
    """As large as the build's, or as the launch template makes it, with its rate; without one at EC2's fastest."""
    template = RootVolume(device="/dev/xvda", size_gib=200, iops=4000, throughput_mib_s=500, rate_mib_s=100)
    smaller = RootVolume(device="/dev/xvda", size_gib=50)

    assert disk_to_be(80.5, None) == Disk(size_gib=81, data_gib=81.0, rate_mib_s=300)
    assert disk_to_be(80, template) == Disk(
        size_gib=200, data_gib=80.0, rate_mib_s=100, iops=4000, throughput_mib_s=500
    )
    assert disk_to_be(80, smaller) == Disk(size_gib=80, data_gib=80.0, rate_mib_s=None)

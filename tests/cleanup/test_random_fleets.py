"""Random fleets: whatever is shared with whom, left out, switched off or failing, nothing goes that anybody needs."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpu_ami.cleanup.inventory import Reading
from gpu_ami.cleanup.policy import Scope
from tests.support.random_fleets import (
    ACCOUNTS,
    FLEETS,
    NOW,
    POLICY,
    Ami,
    RandomFleet,
    expected_of,
    list_made,
    made_plan,
    may_launch,
    part_made,
    plan_of_parts,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(**FLEETS)
def test_nothing_goes_that_anybody_needs(
    made: list[Ami],
    left_out: set[str],
    off: set[tuple[str, str]],
    failing: set[tuple[str, str]],
    allow: bool,
) -> None:
    """Be it used in its own account, in another one, in one that nobody reads, or outside the fleet."""
    fleet = RandomFleet(made, left_out, off, failing, replace(POLICY, allow_no_references=allow))
    places = fleet.places
    survey = fleet.survey()

    survey.query()
    first = survey.decide(NOW, brief=True)
    # One reason to stay is enough to stay.
    assert [verdict.image for verdict in first.selected] == [verdict.image for verdict in survey.decide(NOW).selected]
    survey.query_images({verdict.image.image_id for verdict in first.selected})
    going = {verdict.image.image_id for verdict in survey.decide(NOW).selected}

    assert going.isdisjoint(one.key for one in made if one.users)
    # Where no AMI is, nobody is asked what launches one.
    busy = {one.region for one in made if (one.owner, one.region) in places}
    if any(place in places and place[1] in busy for place in failing):
        assert going == set()
    elif allow:
        # And what nobody may launch but who was read, and nobody does, goes: a plan that keeps all would pass, too.
        read = set(places)
        free = {
            one.key
            for one in made
            if not one.users
            and (one.owner, one.region) in read
            and {"Group": "all"} not in one.grants
            and all((account, one.region) in read for account in may_launch(one.grants) - {one.owner})
        }
        assert free <= going


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(**FLEETS, owners=st.sets(st.sampled_from(ACCOUNTS), min_size=1))
def test_an_apply_for_some_owners_needs_no_more_to_see(
    made: list[Ami],
    left_out: set[str],
    off: set[tuple[str, str]],
    failing: set[tuple[str, str]],
    allow: bool,
    owners: set[str],
) -> None:
    """Whatever its plan says: it reads who may launch what goes, and lets nothing go that one machine's look keeps."""
    fleet = RandomFleet(made, left_out, off, failing, replace(POLICY, allow_no_references=allow))
    survey, saved = fleet.survey_of_owners(owners)

    plan = made_plan(survey).cut(saved)

    going = {verdict.image.image_id for verdict in plan.decision.selected}
    assert going.isdisjoint(one.key for one in made if one.users)
    assert going <= {one.key for one in made if one.owner in owners}
    if not failing:
        everything = made_plan(fleet.survey())
        whole = {verdict.image.image_id for verdict in everything.decision.selected if verdict.image.account in owners}
        # Of an owner in which nobody uses anything, one machine would see no more.
        assert going == whole if allow else going <= whole


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(**FLEETS, shards=st.integers(1, 5), limit=st.sampled_from([None, 1]), shared=st.booleans())
def test_the_plan_of_many_machines_is_that_of_one(
    made: list[Ami],
    left_out: set[str],
    off: set[tuple[str, str]],
    failing: set[tuple[str, str]],
    allow: bool,
    shards: int,
    limit: int | None,
    shared: bool,
) -> None:
    """To the last reason and report, however the accounts are cut: no shard knows what the others need."""
    policy = replace(POLICY, allow_no_references=allow, max_deletions=limit, include_shared=shared)
    fleet = RandomFleet(made, left_out, off, failing, policy)
    listed = list_made(fleet, shards)

    parts = {name: part_made(name, fleet, listed) for name in listed.names}
    plan, wrong = plan_of_parts(parts, fleet, expected_of(listed))

    assert wrong == []
    assert plan.document() == made_plan(fleet.survey()).document()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(**FLEETS)
def test_what_is_read_for_another_family_decides_as_if_it_were_read_anew(
    made: list[Ami],
    left_out: set[str],
    off: set[tuple[str, str]],
    failing: set[tuple[str, str]],
    allow: bool,
) -> None:
    """To the last reason and report, although each has its AMIs in other regions, where alone all sources are asked."""
    reading = Reading(NOW)
    fleets = [
        RandomFleet(made, left_out, off, failing, replace(POLICY, allow_no_references=allow, scope=Scope(name=name)))
        for name in ("n-0", "n-1")
    ]

    for fleet in (*fleets, fleets[0]):
        assert made_plan(fleet.survey(reading=reading)).document() == made_plan(fleet.survey()).document()

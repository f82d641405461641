"""Emulates `systemctl`: real unit files and real links in /etc; what runs is only noted in /run."""

from __future__ import annotations

from collections.abc import Callable

from gpu_ami_sandbox.guest.programs import gpu, services, shutdown, timers
from gpu_ami_sandbox.guest.programs.system import Refusal, System
from gpu_ami_sandbox.guest.programs.units import Units, full_name

_NOT_ROOT = "Interactive authentication required."

REFUSALS = (
    Refusal("sudo systemctl enable nope", "Failed to enable unit: Unit file nope.service does not exist.", 1),
    Refusal("sudo systemctl disable nope", "Failed to disable unit: Unit file nope.service does not exist.", 1),
    Refusal("sudo systemctl start nope", "Failed to start nope.service: Unit nope.service not found.", 5),
    Refusal("sudo systemctl restart nope", "Failed to restart nope.service: Unit nope.service not found.", 5),
    Refusal("sudo systemctl stop nope", "Failed to stop nope.service: Unit nope.service not loaded.", 5),
    Refusal("sudo systemctl kill nope", "Failed to kill unit nope.service: Unit nope.service not loaded.", 1),
    Refusal(
        "sudo systemctl mask ecs; sudo systemctl start ecs",
        "Failed to start ecs.service: Unit ecs.service is masked.",
        1,
    ),
    Refusal(
        "sudo systemctl mask ecs; sudo systemctl enable ecs",
        "Failed to enable unit: Unit file /etc/systemd/system/ecs.service is masked.",
        1,
    ),
    Refusal(
        "sudo systemctl stop auditd",
        "Failed to stop auditd.service: Operation refused, unit auditd.service may be requested by dependency only",
        4,
    ),
    Refusal(
        "systemctl is-enabled nope", "Failed to get unit file state for nope.service: No such file or directory", 1
    ),
    Refusal("systemctl is-active nope", "inactive", 3),
    Refusal("systemctl status nope", "Unit nope.service could not be found.", 4),
    Refusal("systemctl stop docker", _NOT_ROOT, 1),
    Refusal("systemctl no-such-command", "Unknown command verb no-such-command.", 1),
    Refusal("systemctl --no-such-option start docker", "systemctl: unrecognized option '--no-such-option'", 1),
    Refusal("sudo systemctl start", "Too few arguments.", 1),
)

_CHANGES = "daemon-reload disable enable kill mask poweroff reboot reset-failed restart start stop unmask"
_FLAGS = """
    --all --failed --force --full --global --lines --no-ask-password --no-block --no-legend --no-pager --no-wall --now
    --output --plain --property --quiet --runtime --signal --state --system --type --value --wait
"""


def main(argv: list[str], system: System) -> int:
    """Run one verb."""
    arguments = argv[1:]
    flags, rest, unknown = _read(arguments)
    if unknown:
        return system.fail(1, f"systemctl: unrecognized option '{unknown}'")
    verb = rest[0] if rest else "list-units"
    if verb in _CHANGES.split() and not system.is_root:
        return system.fail(1, f"Failed to {verb} {full_name(rest[1]) if rest[1:] else 'the system'}: {_NOT_ROOT}")
    if verb in ("reboot", "poweroff"):
        return shutdown.switch(verb, system)
    if verb not in _VERBS:
        return system.fail(1, f"Unknown command verb {verb}.")
    names = [full_name(name) for name in rest[1:]]
    if verb in _ON_UNITS.split() and not names:
        return system.fail(1, "Too few arguments.")
    return _VERBS[verb](names, flags, system)


def boot(system: System) -> None:
    """Start what a boot starts; the ECS agent waits for the user data, see its unit's After=."""
    units = Units(system)
    gpu.boot(system)
    for unit in units.all_enabled():
        if unit != "ecs.service" and not units.is_masked(unit):
            _activate(unit, units, system)


def boot_agent(system: System) -> None:
    """Start the ECS agent if the user data has left it enabled."""
    units = Units(system)
    if units.is_enabled("ecs.service") == "enabled":
        units.set_active("ecs.service", True)


def _read(argv: list[str]) -> tuple[dict[str, str], list[str], str]:
    flags: dict[str, str] = {}
    arguments: list[str] = []
    rest = list(argv)
    while rest:
        argument = rest.pop(0)
        name, _, value = argument.partition("=")
        if argument in ("-p", "-t", "-n", "-o", "-s") and rest:
            flags[argument] = rest.pop(0)
        elif name in _FLAGS.split():
            flags[name] = value
        elif argument in ("-q", "-a", "-l", "-f"):
            flags[{"-q": "--quiet"}.get(argument, argument)] = ""
        elif argument.startswith("-"):
            return flags, arguments, argument
        else:
            arguments.append(argument)
    return flags, arguments, ""


def _start(names: list[str], _flags: dict[str, str], system: System, verb: str = "start") -> int:
    units = Units(system)
    for unit in names:
        if units.file(unit) is None:
            return system.fail(5, f"Failed to {verb} {unit}: Unit {unit} not found.")
        if units.is_masked(unit):
            return system.fail(1, f"Failed to {verb} {unit}: Unit {unit} is masked.")
        for needed in units.setting(unit, "Unit", "Requires"):
            units.set_active(needed, True)
        _activate(unit, units, system)
    return 0


def _activate(unit: str, units: Units, system: System) -> None:
    """Note that the unit runs; one that really does has ended by the time that anybody looks."""
    if unit in services.RUN:
        services.run(unit, units, system)
    else:
        units.set_active(unit, True)
    if unit.endswith(".timer"):
        timers.start(unit, units, system)


def _stop(names: list[str], _flags: dict[str, str], system: System) -> int:
    units, status = Units(system), 0
    for unit in names:
        if units.file(unit) is None:
            status = system.fail(5, f"Failed to stop {unit}: Unit {unit} not loaded.")
        elif units.setting(unit, "Unit", "RefuseManualStop") == ["yes"]:
            status = system.fail(
                4,
                f"Failed to stop {unit}: Operation refused, unit {unit} may be requested by dependency only "
                "(it is configured to refuse manual start/stop).",
                f"See system logs and 'systemctl status {unit}' for details.",
            )
        else:
            _end(unit, units, system)
            if unit == "docker.service" and units.is_active("docker.socket"):
                system.fail(0, "Warning: Stopping docker.service, but it can still be activated by:", "  docker.socket")
    return status


def _end(unit: str, units: Units, system: System) -> None:
    if unit == "ecs.service" and units.is_active(unit):
        # The agent saves its state when it is stopped: who removes the state must stop it first.
        state = system.path("/var/lib/ecs/data/agent.db")
        state.parent.mkdir(parents=True, exist_ok=True)
        state.write_text("agent state, saved at its stop\n")
    timers.stop(unit, system)
    units.set_active(unit, False)


def _restart(names: list[str], flags: dict[str, str], system: System) -> int:
    units = Units(system)
    for unit in names:
        if units.file(unit) is not None:
            _end(unit, units, system)
    return _start(names, flags, system, "restart")


def _kill(names: list[str], _flags: dict[str, str], system: System) -> int:
    units = Units(system)
    for unit in names:
        if units.file(unit) is None:
            return system.fail(1, f"Failed to kill unit {unit}: Unit {unit} not loaded.")
        _end(unit, units, system)
    return 0


def _enable(names: list[str], flags: dict[str, str], system: System) -> int:
    units = Units(system)
    for unit in names:
        if (file := units.file(unit)) is None:
            return system.fail(1, f"Failed to enable unit: Unit file {unit} does not exist.")
        if units.is_masked(unit):
            return system.fail(1, f"Failed to enable unit: Unit file {file} is masked.")
        system.fail(0, *units.enable(unit))
    return _start(names, flags, system) if "--now" in flags else 0


def _disable(names: list[str], flags: dict[str, str], system: System) -> int:
    units = Units(system)
    for unit in names:
        if units.file(unit) is None:
            return system.fail(1, f"Failed to disable unit: Unit file {unit} does not exist.")
        system.fail(0, *units.disable(unit))
    return _stop(names, flags, system) if "--now" in flags else 0


def _mask(names: list[str], flags: dict[str, str], system: System) -> int:
    units = Units(system)
    for unit in names:
        if units.file(unit) is None:
            system.fail(0, f"Unit {unit} does not exist, proceeding anyway.")
        elif "--now" in flags:
            _end(unit, units, system)
        if (existing := system.path(f"/etc/systemd/system/{unit}")).exists() and not existing.is_symlink():
            return system.fail(1, f"Failed to mask unit: File /etc/systemd/system/{unit} already exists.")
        system.fail(0, *units.mask(unit, runtime="--runtime" in flags))
    return 0


def _unmask(names: list[str], _flags: dict[str, str], system: System) -> int:
    for unit in names:
        system.fail(0, *Units(system).unmask(unit))
    return 0


def _is_enabled(names: list[str], flags: dict[str, str], system: System) -> int:
    units, good = Units(system), False
    for unit in names:
        state = units.is_enabled(unit)
        if state is None:
            system.fail(1, f"Failed to get unit file state for {unit}: No such file or directory")
            continue
        good = good or state in ("enabled", "static")
        if "--quiet" not in flags:
            system.say(state)
    return 0 if good else 1


def _is_active(names: list[str], flags: dict[str, str], system: System) -> int:
    states = [Units(system).is_active(unit) for unit in names]
    if "--quiet" not in flags:
        system.say(*("active" if state else "inactive" for state in states))
    return 0 if any(states) else 3


def _status(names: list[str], _flags: dict[str, str], system: System) -> int:
    units, status = Units(system), 0
    for unit in names:
        file = units.file(unit)
        if file is None:
            status = system.fail(4, f"Unit {unit} could not be found.")
            continue
        active = units.is_active(unit)
        system.say(
            f"{'●' if active else '○'} {unit} - {' '.join(units.setting(unit, 'Unit', 'Description')) or unit}",
            f"     Loaded: {'masked' if units.is_masked(unit) else 'loaded'} ({file}; {units.is_enabled(unit)})",
            f"     Active: {'active (running)' if active else 'inactive (dead)'}",
        )
        status = status or (0 if active else 3)
    return status


def _show(names: list[str], flags: dict[str, str], system: System) -> int:
    units = Units(system)
    requested = [name for name in (flags.get("-p") or flags.get("--property") or "").split(",") if name]
    for unit in names:
        known = units.file(unit) is not None
        active = units.is_active(unit)
        values = {
            "Id": unit,
            "LoadState": "masked" if units.is_masked(unit) else "loaded" if known else "not-found",
            "ActiveState": "active" if active else "inactive",
            "SubState": "running" if active else "dead",
            "UnitFileState": units.is_enabled(unit) or "",
            "FragmentPath": units.file(unit) or "",
            "Environment": " ".join(units.setting(unit, "Service", "Environment")),
            "EnvironmentFiles": "\n".join(_environment_files(unit, units)),
            "Result": "success",
        }
        for name in requested or values:
            system.say(values.get(name, "") if "--value" in flags else f"{name}={values.get(name, '')}")
    return 0


def _environment_files(unit: str, units: Units) -> list[str]:
    """Return the unit's environment files as `systemctl show` prints them."""
    files = units.setting(unit, "Service", "EnvironmentFile")
    return [f"{name.removeprefix('-')} (ignore_errors={'yes' if name[:1] == '-' else 'no'})" for name in files]


def _list_units(_names: list[str], flags: dict[str, str], system: System) -> int:
    active = [] if "--failed" in flags else [unit for unit in Units(system).names() if Units(system).is_active(unit)]
    system.say("  UNIT LOAD ACTIVE SUB DESCRIPTION", *(f"  {unit} loaded active running {unit}" for unit in active))
    system.say(f"{len(active)} loaded units listed.")
    return 0


def _nothing(_names: list[str], _flags: dict[str, str], _system: System) -> int:
    return 0


_VERBS: dict[str, Callable[[list[str], dict[str, str], System], int]] = {
    "daemon-reload": _nothing,
    "disable": _disable,
    "enable": _enable,
    "is-active": _is_active,
    "is-enabled": _is_enabled,
    "kill": _kill,
    "list-units": _list_units,
    "mask": _mask,
    "reset-failed": _nothing,
    "restart": _restart,
    "show": _show,
    "start": _start,
    "status": _status,
    "stop": _stop,
    "unmask": _unmask,
}
_ON_UNITS = "disable enable is-active is-enabled kill mask restart start stop unmask"

"""User data that switches an instance off in time, whoever has forgotten it and however often it has booted.

It is not for a builder, whose disk becomes the image: its units would end every instance of the AMI. That one has a
`shutdown +N`, which lives in memory, and no step of a bake boots it anew.
"""

from __future__ import annotations

from string import Template

# cloud-init runs a boothook early at every boot, at the first one twice (its docs, "User data formats", and 22.2.2's
# handlers/boot_hook.py and handlers/__init__.py; Amazon Linux 2023 has that version). D-Bus may not be there yet, and
# `shutdown +N` without it switches off at once (systemd 252, systemctl-logind.c): so it is a timer of systemd's, which
# systemctl reaches without. The timer is enabled: a later boot needs neither cloud-init nor this script for it.
_BOOTHOOK = Template("""\
#cloud-boothook
#!/bin/bash
# Switches this instance off $minutes minutes after its first boot, through every reboot.
span=$$(($minutes * 60)) now=$$(date +%s)
# Of this instance alone: the folder is another one where an AMI is made of it.
note=/var/lib/cloud/instance/gpu-ami-power-off
due=$$(cat "$$note" 2>/dev/null)
if ! [[ $$due =~ ^[1-9][0-9]{0,11}$$ ]] || ((due > now + span)); then
  due=$$((now + span))
  echo "$$due" >"$$note"
fi
# A timer that begins after its moment has passed never elapses: so what is as good as over ends now.
((due > now + 5)) || exec systemctl poweroff
units=/etc/systemd/system
cat >"$$units/gpu-ami-power-off.service" <<'END'
[Unit]
Description=The end of this instance, which was made for a measurement
DefaultDependencies=no

[Service]
Type=oneshot
ExecStart=/usr/bin/systemctl poweroff
END
# Without default dependencies it waits for nothing; OnBootSec is there for a clock that is wrong.
cat >"$$units/gpu-ami-power-off.timer" <<END
[Unit]
Description=When this instance, which was made for a measurement, ends
DefaultDependencies=no

[Timer]
OnCalendar=$$(date -u -d "@$$due" '+%Y-%m-%d %H:%M:%S UTC')
OnBootSec=${minutes}min
AccuracySec=1s

[Install]
WantedBy=timers.target
END
systemctl daemon-reload
if ! { systemctl enable gpu-ami-power-off.timer && systemctl restart gpu-ami-power-off.timer; }; then
  shutdown -h +$minutes
fi
""")
_BOUNDARY = "==GPU-AMI-POWER-OFF=="


def boothook(minutes: int) -> str:
    """Return the script alone, as user data of its own or as a ``text/cloud-boothook`` part beside others.

    Args:
        minutes: After how many minutes from its first boot the instance switches itself off. EC2 terminates it then
            only where it was started with InstanceInitiatedShutdownBehavior=terminate.
    """
    return _BOOTHOOK.substitute(minutes=minutes)


def user_data(minutes: int) -> str:
    """Return user data with that script as its only part, not in base64.

    It is a MIME multi-part document: so Batch demands it of a launch template, to put its own part beside it (its
    guide, "Amazon EC2 user data in launch templates"), and cloud-init takes it from RunInstances, too.

    Args:
        minutes: As `boothook` has it.
    """
    return (
        "MIME-Version: 1.0\n"
        f'Content-Type: multipart/mixed; boundary="{_BOUNDARY}"\n'
        "\n"
        f"--{_BOUNDARY}\n"
        'Content-Type: text/cloud-boothook; charset="us-ascii"\n'
        "\n"
        f"{boothook(minutes)}\n"
        f"--{_BOUNDARY}--\n"
    )

"""Paths inside the guest, shared by the code that binds files there and the code that uses them."""

from __future__ import annotations

# What a real instance does not have lies here, read-only, out of every script's way.
TOOLBOX = "/usr/libexec/guest"
PROGRAMS = f"{TOOLBOX}/bin"
PACKAGES = f"{TOOLBOX}/packages"
INTERPRETER = f"{TOOLBOX}/python/bin/python3"
SITE = f"{TOOLBOX}/site"
EMULATED = f"{TOOLBOX}/lib/gpu_ami_sandbox/guest/programs"
INSTANCE = f"{TOOLBOX}/instance.json"
LAUNCHER = f"{TOOLBOX}/launch"
AWS_CLI = f"{TOOLBOX}/aws"
SOCKET = f"{TOOLBOX}/endpoint.sock"

USER = "ec2-user"
HOME = f"/home/{USER}"
USER_PATH = "/usr/local/bin:/usr/bin:/usr/local/sbin:/usr/sbin"
ROOT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"

"""Judges the ECS agent's settings in the image."""

from __future__ import annotations

from gpu_ami.bake.checks.check import Check
from gpu_ami.bake.variables import BuildVariables

# What configure-ecs.sh sets in any case, and the variable that decides it; none for what is always the same.
OWN = {
    "ECS_IMAGE_PULL_BEHAVIOR": "ecs_image_pull_behavior",
    "ECS_ENABLE_GPU_SUPPORT": "",
    "ECS_CONTAINER_START_TIMEOUT": "ecs_container_start_timeout",
    "ECS_CONTAINER_CREATE_TIMEOUT": "ecs_container_create_timeout",
    "ECS_IMAGE_PULL_INACTIVITY_TIMEOUT": "ecs_image_pull_inactivity_timeout",
    "ECS_ENABLE_SPOT_INSTANCE_DRAINING": "ecs_spot_instance_draining",
}


def settings(variables: BuildVariables) -> Check:
    """Judge what ``ecs_extra_config`` adds: a setting of two values fails the bake's last step, after all the work.

    The template refuses the same.
    """
    name = "ECS agent settings"
    secret = [key for key in variables.ecs_extra_keys if key.startswith("ECS_ENGINE_AUTH_")]
    if secret:
        text = f"ecs_extra_config sets {', '.join(secret)}: whoever can start the AMI could read a registry's password"
        return Check(name, "fail", text, "Leave it out; use the job's repository credentials.")
    twice = [key for key in variables.ecs_extra_keys if key in OWN]
    if not twice:
        more = f" and {len(variables.ecs_extra_keys)} of ecs_extra_config" if variables.ecs_extra_keys else ""
        return Check(name, "ok", f"the template's own{more}")
    instead = [f"{OWN[key]} for {key}" for key in twice if OWN[key]]
    fix = f"Set {', '.join(instead)} instead." if instead else "Leave it out: the template always sets it to true."
    return Check(name, "fail", f"ecs_extra_config sets {', '.join(twice)}, as the template does itself", fix)

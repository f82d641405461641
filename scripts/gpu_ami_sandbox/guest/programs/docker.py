"""Emulates `docker`: logs in to and pulls from the sandbox's ECR for real; of containers it knows the way to a GPU."""

from __future__ import annotations

from gpu_ami_sandbox.guest.programs import docker_containers, docker_images, docker_login, docker_run
from gpu_ami_sandbox.guest.programs.docker_arguments import Arguments, Command
from gpu_ami_sandbox.guest.programs.system import Refusal, System
from gpu_ami_sandbox.guest.programs.units import Units

_NO_DAEMON = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"
_NOT_ALLOWED = (
    "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock: "
    "dial unix /var/run/docker.sock: connect: permission denied"
)
_ECR = "123456789012.dkr.ecr.ap-northeast-2.amazonaws.com"

REFUSALS = (
    Refusal("docker ps", _NOT_ALLOWED, 1),
    Refusal("sudo systemctl stop docker.socket docker; sudo docker ps", _NO_DAEMON, 1),
    Refusal(f"sudo docker pull {_ECR}/app:1", "no basic auth credentials", 1),
    Refusal("sudo docker pull ubuntu:24.04", 'Get "https://registry-1.docker.io/v2/": dial tcp: lookup', 1),
    Refusal("sudo docker pull Not/A/Reference", "invalid reference format", 1),
    Refusal(f"sudo docker pull {_ECR}/app@sha256:beef", "invalid reference format", 1),
    Refusal("sudo docker login </dev/null", "Error: Cannot perform an interactive login from a non TTY device", 1),
    Refusal(
        f"sudo docker login --password-stdin {_ECR} </dev/null", "Must provide --username with --password-stdin", 1
    ),
    Refusal("sudo docker image inspect nope", "Error response from daemon: No such image: nope:latest", 1),
    Refusal("sudo docker tag nope other", "Error response from daemon: No such image: nope:latest", 1),
    Refusal("sudo docker image rm nope", "Error response from daemon: No such image: nope:latest", 1),
    Refusal("sudo docker rm nope", "Error response from daemon: No such container: nope", 1),
    Refusal("sudo docker rm ecs-agent", 'cannot remove container "/ecs-agent": container is running', 1),
    Refusal("sudo docker run --gpus all amazon/amazon-ecs-agent nvidia-smi", "nvml error: driver not loaded", 125),
    Refusal(
        "sudo docker run --runtime nvidia -e NVIDIA_VISIBLE_DEVICES=all amazon/amazon-ecs-agent nvidia-smi",
        "failed to initialize NVML: Driver Not Loaded: unknown.",
        125,
    ),
    Refusal("sudo docker run --runtime nope amazon/amazon-ecs-agent", "unknown or invalid runtime name: nope.", 125),
    Refusal(
        "sudo docker run --entrypoint nvidia-smi amazon/amazon-ecs-agent -L",
        'exec: "nvidia-smi": executable file not found in $PATH: unknown.',
        127,
    ),
    Refusal("sudo docker run nope", "Unable to find image 'nope:latest' locally", 125),
    Refusal("sudo docker image inspect --format '{{.Nope}}' amazon/amazon-ecs-agent", 'no entry for key "Nope"', 1),
    Refusal(
        "sudo docker image inspect --format '{{nope .Id}}' amazon/amazon-ecs-agent", 'function "nope" not defined', 1
    ),
    Refusal("sudo docker volume prune </dev/null", "Are you sure you want to continue? [y/N]", 0),
    Refusal("docker no-such-command", "docker: 'no-such-command' is not a docker command.", 1),
    Refusal("sudo docker pull", '"docker pull" requires exactly 1 argument.', 1),
    Refusal("sudo docker ps --no-such-option", "unknown flag: --no-such-option", 125),
)

# After a login, at a registry with a repository `batch-processor`. Bytes that are not what their digest says, and a
# login that has expired, need a registry made for it: see the tests.
REFUSALS_AFTER_LOGIN = (
    Refusal(f"sudo docker pull {_ECR}/nope:1", f"repository {_ECR}/nope not found: name unknown: ", 1),
    Refusal(
        f"sudo docker pull {_ECR}/batch-processor:nope",
        f"manifest for {_ECR}/batch-processor:nope not found: manifest unknown: Requested image not found",
        1,
    ),
    Refusal(
        f"sudo docker pull {_ECR}/batch-processor@sha256:{'0' * 64}",
        f"manifest for {_ECR}/batch-processor@sha256:{'0' * 64} not found: manifest unknown",
        1,
    ),
    Refusal("sudo docker pull public.ecr.aws/nginx/nginx:1", "lookup public.ecr.aws: no such host", 1),
)


def main(argv: list[str], system: System) -> int:
    """Run one command."""
    arguments = argv[1:]
    while arguments and arguments[0] in ("--config", "--log-level", "-l", "-H", "--host", "--context"):
        if arguments[0] == "--config" and len(arguments) > 1:
            system.env["DOCKER_CONFIG"] = arguments[1]
        arguments = arguments[2:]
    if not arguments or arguments[0] in ("help", "--help"):
        system.say("Usage:  docker [OPTIONS] COMMAND")
        return 0
    for length in (2, 1):
        command = _COMMANDS.get(" ".join(arguments[:length]))
        if command is not None:
            return _run(command, arguments[:length], arguments[length:], system)
    return system.fail(1, f"docker: '{arguments[0]}' is not a docker command.", "See 'docker --help'")


def _run(command: Command, name: list[str], rest: list[str], system: System) -> int:
    arguments = Arguments(rest, command.flags, command.valued, until_plain=name == ["run"])
    if arguments.unknown:
        label = "unknown flag" if arguments.unknown.startswith("--") else "unknown shorthand flag"
        return system.fail(125, f"{label}: {arguments.unknown}", f"See 'docker {' '.join(name)} --help'.")
    if command.arguments is not None and len(arguments.plain) != command.arguments:
        number = f"exactly {command.arguments} argument{'s' if command.arguments != 1 else ''}"
        return system.fail(1, f'"docker {" ".join(name)}" requires {number}.', f"See 'docker {' '.join(name)} --help'.")
    if command.needs_daemon:
        if not system.is_root:
            return system.fail(1, _NOT_ALLOWED)
        units = Units(system)
        if not units.is_active("docker.service") and not units.is_active("docker.socket"):
            return system.fail(1, _NO_DAEMON)
        units.set_active("docker.service", True)  # its socket starts it
    return command.function(arguments, system)


_LISTED = "-q,--quiet -a,--all --no-trunc"
_FORCED = "-f,--force"
_RUN = (
    "--rm -d,--detach -i -t --privileged --init",
    "--gpus -e,--env --entrypoint -v,--volume --name --runtime --pull",
)

_COMMANDS = {
    "container prune": Command(docker_containers.prune, _FORCED, arguments=0),
    "image inspect": Command(docker_images.inspect_image, "", "-f,--format"),
    "image ls": Command(docker_images.list_images, _LISTED),
    "image rm": Command(docker_images.remove, _FORCED),
    "login": Command(docker_login.login, "--password-stdin", "-u,--username -p,--password"),
    "logout": Command(docker_login.logout, needs_daemon=False),
    "ps": Command(docker_containers.list_containers, _LISTED, arguments=0),
    "pull": Command(docker_images.pull, "-q,--quiet", arguments=1),
    "rm": Command(docker_containers.remove, _FORCED),
    "run": Command(docker_run.run, *_RUN),
    "tag": Command(docker_images.tag, arguments=2),
    "volume prune": Command(docker_containers.prune_volumes, _FORCED, arguments=0),
}

"""A scratch machine in the state that a good bake leaves: what validate-image.sh passes."""

from __future__ import annotations

import hashlib
import json

from tests.infra.box import Box

DIGEST = "sha256:" + "ab" * 32
REGISTRY = "123456789012.dkr.ecr.ap-northeast-2.amazonaws.com"
REPOSITORY = "batch-processor"
REFERENCE = f"{REGISTRY}/{REPOSITORY}"
MODEL = b"weights\n"

INPUTS = {
    "ECR_REGISTRY": REGISTRY,
    "ECR_ACCOUNT": "123456789012",
    "ECR_REGION": "ap-northeast-2",
    "ECR_REPOSITORY": REPOSITORY,
    "IMAGE_TAG": "v1",
    "IMAGE_DIGEST": "",
    "ECS_IMAGE_PULL_BEHAVIOR": "prefer-cached",
    "ECS_CONTAINER_START_TIMEOUT": "15m",
    "ECS_CONTAINER_CREATE_TIMEOUT": "15m",
    "ECS_IMAGE_PULL_INACTIVITY_TIMEOUT": "5m",
    "ECS_ENABLE_SPOT_INSTANCE_DRAINING": "true",
    "ECS_EXTRA_CONFIG": '{"ECS_RESERVED_MEMORY": "256"}',
    "PREWARM": "1",
    "PREWARM_READERS": "32",
    "PREWARM_SECONDS": "60",
    "PREWARM_PATHS": '["/opt/ml/models"]',
    "MODELS_DIR": "/opt/ml/models",
    "MIN_FREE_GIB": "1",
    "RUN_ID": "run-1",
    "MPS_PIPE": "repair",
}

CONFIG = """ECS_IMAGE_PULL_BEHAVIOR=prefer-cached
ECS_ENABLE_GPU_SUPPORT=true
ECS_CONTAINER_START_TIMEOUT=15m
ECS_CONTAINER_CREATE_TIMEOUT=15m
ECS_IMAGE_PULL_INACTIVITY_TIMEOUT=5m
ECS_ENABLE_SPOT_INSTANCE_DRAINING=true
ECS_RESERVED_MEMORY=256
"""

PREWARM_UNIT = "/etc/systemd/system/gpu-ami-prewarm.service"
PREWARM_CONFIG = "/etc/gpu-ami/prewarm.json"
PREWARM_SCRIPT = "/usr/local/libexec/gpu-ami/prewarm.py"

_DOCKER = r"""
case "$1 $2" in
  "image ls") cat /srv/ids 2>/dev/null || true ;;
  "image inspect")
    [[ $3 != --format ]] || { echo sha256:wanted; exit 0; }
    [[ -s /srv/image.json ]] || { echo "No such image: $3" >&2; exit 1; }; cat /srv/image.json ;;
  "ps --all") cat /srv/containers 2>/dev/null || true ;;
  "container prune") rm -f /srv/containers ;;
  *) : ;;
esac
"""

_SYSTEMCTL = r"""
case "$1 $2" in
  "is-enabled nvidia-mps.service") cat /srv/mps-unit ;;
  "show nvidia-mps.service")
    [[ $3 == --property=Environment ]] || { cat /srv/mps-files 2>/dev/null; exit 0; }
    { cat /srv/mps-environment; sed -n 's/^Environment=//p' /etc/systemd/system/$2.d/*.conf; } 2>/dev/null || true ;;
esac
case "$1" in
  is-enabled)
    [[ $2 != nvidia-mps.service ]] || exit 0
    [[ $2 == ecs.service ]] || { cat /srv/prewarm-unit; exit; }
    cat /srv/ecs-unit; [[ $(cat /srv/ecs-unit) == enabled ]] ;;
  mask) echo masked >/srv/ecs-unit ;;
  unmask) echo disabled >/srv/ecs-unit ;;
  enable) [[ $2 == ecs.service ]] && echo enabled >/srv/ecs-unit || echo enabled >/srv/prewarm-unit ;;
  disable) [[ $2 != gpu-ami-prewarm.service ]] || echo disabled >/srv/prewarm-unit ;;
  *) : ;;
esac
"""

_RPM = r"""
if [[ $1 == -qa && $* == *LICENSE* ]]; then
  awk -v OFS='\t' '{ a = index($2 "-", "-"); print $1, 0, substr($2, 1, a - 1), substr($2, a + 1), "x86_64", "MIT" }' \
    /srv/packages
  exit 0
fi
if [[ $1 == -qa ]]; then cat /srv/packages; exit 0; fi
sed -n "s/^${*: -1} //p" /srv/packages | grep . || { echo "package ${*: -1} is not installed"; exit 1; }
"""


def add_fakes(box: Box) -> None:
    """Give *box* the commands that an ECS instance has and a test machine has not."""
    box.fake("docker", _DOCKER)
    box.fake("systemctl", _SYSTEMCTL)
    box.fake("rpm", _RPM)
    for quiet in ("dnf", "journalctl"):
        box.fake(quiet, "exit 0")
    box.fake(
        "cloud-init",
        'if [[ $1 == clean ]]; then rm -rf /var/lib/cloud/*; fi; exit "$(cat /srv/cloud-init 2>/dev/null || echo 0)"',
    )


def finish(box: Box) -> None:
    """Bring *box* into the state of a good bake."""
    add_fakes(box)
    box.write("/etc/machine-id", "")
    box.write("/etc/ecs/ecs.config", CONFIG)
    box.write(
        "/etc/os-release", 'NAME="Amazon Linux"\nPRETTY_NAME="Amazon Linux 2023.9"\nID="amzn"\nVERSION_ID="2023"\n'
    )
    box.write("/var/lib/ecs/ecs.config", "ECS_ENABLE_GPU_SUPPORT=true\n")
    box.write("/var/lib/ecs/deps/execute-command/bin/agent")
    box.write("/opt/ml/models/detector.pt", MODEL.decode())
    box.write("/srv/ecs-unit", "enabled\n")
    box.write("/srv/prewarm-unit", "enabled\n")
    box.write(PREWARM_UNIT)
    box.write(f"{PREWARM_UNIT}.d/limit.conf", "[Service]\nRuntimeMaxSec=65\n")
    box.write(PREWARM_SCRIPT)
    box.write(PREWARM_CONFIG, '{"readers": 32, "seconds": 60, "paths": ["/opt/ml/models"]}\n')
    box.write("/srv/image.json", json.dumps([{"RepoDigests": [f"{REFERENCE}@{DIGEST}"], "RepoTags": [], "Size": 4096}]))
    box.write(
        "/srv/packages",
        "nvidia-driver 580.159.03\nkmod-nvidia-open-dkms 580.159.03\nnvidia-container-toolkit 1.17.8\n"
        "libnvidia-container1 1.17.8\nnvidia-release 2023.9\nnvidia-persistenced 580.159.03\n"
        "docker 25.0.16-1\ncontainerd 2.2.5-1\necs-init 1.106.2-1\n",
    )
    model = {"path": "detector.pt", "size_bytes": len(MODEL), "sha256": hashlib.sha256(MODEL).hexdigest()}
    release = {"run_id": "run-1", "image": {"digest": DIGEST}, "models": {"dir": "/opt/ml/models", "files": [model]}}
    box.write("/etc/gpu-ami-release.json", json.dumps(release))

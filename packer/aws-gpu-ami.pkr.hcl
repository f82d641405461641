# Bakes a container image and its models into an ECS GPU-optimized AMI for AWS Batch.
# The steps are the scripts of scripts/, in the order of the build block; README.md explains each.

packer {
  required_version = ">= 1.16.0, < 2.0.0"

  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = "~> 1.8.1"
    }
  }
}

data "amazon-parameterstore" "base_ami" {
  # Packer reads every data source, needed or not. With an explicit source_ami the one that is read exists in each
  # region, so a region without the ECS parameter is no obstacle.
  name   = var.source_ami == "" ? var.base_ami_parameter : "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
  region = var.region
}

locals {
  now    = timestamp()
  run_id = var.run_id != null ? var.run_id : formatdate("YYYYMMDD'T'hhmmss'Z'-'hand'", local.now)

  manifest_path = var.manifest_path != null ? var.manifest_path : "${path.root}/manifest.json"
  release_path  = var.release_path != null ? var.release_path : "${path.root}/release.json"
  contents_path = var.contents_path != null ? var.contents_path : "${path.root}/contents.json"
  bill_path     = var.bill_path != null ? var.bill_path : "${path.root}/bill.cdx.json"

  ecr       = regex("^(?P<registry>(?P<account>[0-9]+)\\.dkr[.-]ecr(?:-fips)?\\.(?P<region>[a-z0-9-]+)\\.[a-z.]+)/(?P<name>.+)$", var.ecr_repository_url)
  partition = startswith(var.region, "cn-") ? "aws-cn" : startswith(var.region, "us-gov-") ? "aws-us-gov" : startswith(var.region, "eusc-") ? "aws-eusc" : "aws"

  image_env = {
    ECR_REGISTRY   = local.ecr.registry
    ECR_ACCOUNT    = local.ecr.account
    ECR_REGION     = local.ecr.region
    ECR_REPOSITORY = local.ecr.name
    IMAGE_TAG      = var.image_tag
    IMAGE_DIGEST   = var.image_digest
  }

  # The list in the variables and the one in models.yaml, which anyone may read and git keeps.
  listed_models = yamldecode(fileexists("${path.root}/models.yaml") ? file("${path.root}/models.yaml") : "[]")
  models = [
    for model in concat(var.model_downloads, local.listed_models == null ? [] : local.listed_models) :
    { url = model.url, path = model.path, sha256 = try(model.sha256 == null ? "" : model.sha256, "") }
  ]

  ecs_env = {
    ECS_IMAGE_PULL_BEHAVIOR           = var.ecs_image_pull_behavior
    ECS_CONTAINER_START_TIMEOUT       = var.ecs_container_start_timeout
    ECS_CONTAINER_CREATE_TIMEOUT      = var.ecs_container_create_timeout
    ECS_IMAGE_PULL_INACTIVITY_TIMEOUT = var.ecs_image_pull_inactivity_timeout
    ECS_ENABLE_SPOT_INSTANCE_DRAINING = var.ecs_spot_instance_draining ? "true" : "false"
    ECS_EXTRA_CONFIG                  = jsonencode(var.ecs_extra_config)
  }

  prewarm_env = {
    PREWARM         = var.prewarm ? "1" : "0"
    PREWARM_READERS = var.prewarm_readers
    PREWARM_SECONDS = var.prewarm_seconds
    # First what is small and needed first: Docker's own notes and the driver's libraries.
    PREWARM_PATHS = jsonencode(length(var.prewarm_paths) > 0 ? var.prewarm_paths : [
      "/var/lib/docker/image",
      "/usr/bin/nvidia-*",
      "/usr/lib64/libcuda*",
      "/usr/lib64/libnvidia*",
      var.models_dir,
      "/var/lib/docker/overlay2",
      "/var/lib/containerd",
    ])
  }

  # Values travel in a file that only its owner may read: on a command line every process could see them.
  as_root = "sudo bash -c '. {{ .EnvVarFile }} && exec bash {{ .Path }}'"

  # A shared image must be encrypted with a key that others can be let to; EBS's default key cannot. So sharing gives
  # Packer the keys as they are, and it refuses the default one ("Cannot share AMI encrypted with default KMS key").
  is_shared   = length(var.ami_users) + length(var.ami_org_arns) + length(var.ami_ou_arns) > 0
  copies      = [for name in var.ami_regions : name if name != var.region]
  copy_keys   = { for name in local.copies : name => lookup(var.region_kms_key_ids, name, "") }
  names_keys  = length(var.region_kms_key_ids) > 0 || (local.is_shared && length(local.copies) > 0)
  is_keyless  = local.is_shared && var.kms_key_id == ""
  is_reworked = local.names_keys || local.is_keyless

  # Without any CIDR the amazon plugin opens the temporary group to 0.0.0.0/0, unless it may ask for our public address,
  # which says nothing about a private one. What is no CIDR it refuses, in these words.
  caller_cidrs = (
    var.ssh_interface != "private_ip" || var.security_group_id != "" || length(var.caller_cidrs) > 0 ? var.caller_cidrs :
    ["(ssh_interface private_ip without a security_group_id needs caller_cidrs: who may reach the builder, such as 10.0.0.7/32)"]
  )

  # EC2 refuses more throughput at launch. A variable's rule may not name another variable, so the plugin refuses it, which
  # takes a throughput for gp3 alone and prints the type.
  volume_type = var.volume_throughput_mib_s * 4 <= var.volume_iops ? "gp3" : (
    "gp3 with volume_throughput_mib_s above a quarter of volume_iops: raise volume_iops to ${var.volume_throughput_mib_s * 4}"
  )

  # On everything the build makes, the AMI included while it is still pending: this is how leftovers are found.
  run_tags = {
    Name               = "${var.family} builder"
    "gpu-ami:family"   = var.family
    "gpu-ami:pipeline" = "gpu-ami-pipeline"
    "gpu-ami:run"      = local.run_id

    # In minutes: `invoke sweep` may run elsewhere, where these variables have other values.
    "gpu-ami:may-take" = "${var.max_build_minutes + ceil(var.poll_delay_seconds * var.poll_max_attempts / 60)}"
  }

  # "false" while the build runs: `invoke build` makes it "true" on the AMI when Packer has ended well. Without it (by hand)
  # an AMI counts as finished when it has the tags below.
  begun_tags = { for value in [var.finished] : "gpu-ami:finished" => value ? "true" : "false" if value != null }

  # Packer adds each PKR_VAR_… of its environment to the provenance, unless its name is there already: not these, whose
  # values may be secrets, or are paths of one machine.
  unstated = ["model_downloads", "contents_path", "bill_path", "bill_command"]

  # How Packer names the ways to sign.
  signing = var.provenance_signer == "none" || var.provenance_signer == "keyless" ? var.provenance_signer : (
    startswith(var.provenance_signer, "awskms:") ? "kms" : "key"
  )

  # Only the finished AMI and its snapshots get these, "pending" until Terraform has taken it.
  image_tags = {
    Name                       = "${var.family}-${local.run_id}"
    "gpu-ami:pipeline-version" = var.pipeline_version
    "gpu-ami:handover"         = "pending"
    "gpu-ami:image"            = "${var.ecr_repository_url}${var.image_digest == "" ? ":${var.image_tag}" : "@${var.image_digest}"}"
    "gpu-ami:source-ami"       = "{{ .SourceAMI }}"
    "gpu-ami:source-ami-name"  = "{{ .SourceAMIName }}"
    "gpu-ami:git-commit"       = var.git_commit
    "gpu-ami:chain-length"     = "${var.chain_length}"
  }
  fingerprint_tags = { for fact, value in var.fingerprints : "gpu-ami:fingerprint-${fact}" => value }

  # The builder's first boot only. The agent must not register this instance with a cluster nor write its state into the
  # image; the scheduled shutdown lives in memory and shuts a builder down whose Packer is gone.
  user_data = <<-EOT
    #!/bin/bash
    # Keep the ECS agent out of the bake and end the builder if nobody else does.
    systemctl mask --now ecs.service
    shutdown -h +${var.max_build_minutes}
  EOT
}

# Replaced by <sensitive> in everything that Packer prints: addresses of models, whose query may be a signature. They are
# written here as the scripts get them too, where JSON has another way to write the ampersand.
local "secrets" {
  expression = flatten([
    for model in local.models : [
      model.url, replace(model.url, "&", "\\u0026"), try(split("?", model.url)[1], ""), try(regex("://([^/?@]+)@", model.url)[0], ""),
    ]
  ])
  sensitive = true
}

source "amazon-ebs" "gpu" {
  ami_name        = "${var.family}-${local.run_id}"
  ami_description = "ECS GPU AMI of ${var.family} with ${local.ecr.name} and its models baked in"
  region          = var.region
  source_ami      = var.source_ami == "" ? data.amazon-parameterstore.base_ami.value : var.source_ami

  # On-demand unless spot: only spot_price decides which of the two it is.
  instance_type            = var.spot ? null : var.instance_type
  spot_price               = var.spot ? "auto" : null
  spot_instance_types      = var.spot ? var.spot_instance_types : null
  spot_allocation_strategy = var.spot ? var.spot_allocation_strategy : null
  spot_tags                = var.spot ? local.run_tags : null
  fleet_tags               = var.spot ? local.run_tags : null
  # What a shutdown does to an On-Demand builder. The plugin gives it to no Spot builder: those the nightly sweep ends.
  shutdown_behavior = "terminate"
  user_data         = local.user_data

  launch_block_device_mappings {
    device_name           = "/dev/xvda"
    volume_type           = local.volume_type
    volume_size           = var.volume_size_gib
    iops                  = var.volume_iops
    throughput            = var.volume_throughput_mib_s
    encrypted             = true
    kms_key_id            = var.kms_key_id == "" ? null : var.kms_key_id
    delete_on_termination = true
  }

  subnet_id                                 = var.subnet_id
  security_group_id                         = var.security_group_id == "" ? null : var.security_group_id
  temporary_security_group_source_cidrs     = local.caller_cidrs
  temporary_security_group_source_public_ip = var.security_group_id == "" && var.ssh_interface == "public_ip" && length(var.caller_cidrs) == 0
  associate_public_ip_address               = var.ssh_interface == "public_ip" ? true : null

  communicator              = "ssh"
  ssh_username              = "ec2-user"
  ssh_interface             = var.ssh_interface
  ssh_host                  = var.ssh_host
  ssh_port                  = var.ssh_port
  ssh_timeout               = "10m"
  temporary_key_pair_type   = "ed25519"
  ssh_clear_authorized_keys = true

  iam_instance_profile = var.iam_instance_profile == "" ? null : var.iam_instance_profile

  dynamic "temporary_iam_instance_profile_policy_document" {
    for_each = var.iam_instance_profile == "" ? ["what the scripts read, nothing else"] : []
    content {
      Version = "2012-10-17"
      Statement {
        Effect   = "Allow"
        Action   = ["ecr:GetAuthorizationToken"]
        Resource = ["*"]
      }
      Statement {
        Effect   = "Allow"
        Action   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:DescribeImages", "ecr:GetDownloadUrlForLayer"]
        Resource = ["arn:${local.partition}:ecr:${local.ecr.region}:${local.ecr.account}:repository/${local.ecr.name}"]
      }
      dynamic "Statement" {
        for_each = var.models_s3_bucket == "" ? [] : [var.models_s3_bucket]
        content {
          Effect = "Allow"
          Action = ["s3:GetObject", "s3:ListBucket"]
          Resource = [
            "arn:${local.partition}:s3:::${Statement.value}",
            "arn:${local.partition}:s3:::${Statement.value}/models/*",
          ]
        }
      }
      dynamic "Statement" {
        for_each = var.ssh_interface == "session_manager" ? ["the agent's side of the tunnel"] : []
        content {
          Effect = "Allow"
          Action = [
            "ssm:UpdateInstanceInformation",
            "ssmmessages:CreateControlChannel",
            "ssmmessages:CreateDataChannel",
            "ssmmessages:OpenControlChannel",
            "ssmmessages:OpenDataChannel",
          ]
          Resource = ["*"]
        }
      }
    }
  }

  # IMDSv2 only, on the builder and on every instance of the AMI. Two hops: a container is one further away.
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 2
  }
  imds_support = "v2.0"

  # Both values: the plugin gives each wait their product, and with max_attempts alone only 2 seconds for each of them.
  aws_polling {
    delay_seconds = var.poll_delay_seconds
    max_attempts  = var.poll_max_attempts
  }

  deprecate_at = var.deprecate_after_days == 0 ? null : timeadd(local.now, "${var.deprecate_after_days * 24}h")

  dynamic "deregistration_protection" {
    for_each = var.deregistration_protection == "off" ? [] : [var.deregistration_protection]
    content {
      enabled       = true
      with_cooldown = deregistration_protection.value == "with-cooldown"
    }
  }

  # The launch mapping above has encrypted the image already. Named keys for copies are another matter: for these the
  # plugin makes the AMI a second time, from an intermediary one that it removes.
  ami_regions        = local.copies
  encrypt_boot       = local.is_reworked ? true : null
  kms_key_id         = local.is_reworked && var.kms_key_id != "" ? var.kms_key_id : null
  region_kms_key_ids = local.names_keys && !local.is_keyless ? local.copy_keys : null
  ami_users          = var.ami_users
  ami_org_arns       = var.ami_org_arns
  ami_ou_arns        = var.ami_ou_arns

  # Copies only: without one the plugin has nothing to promise.
  snapshot_copy_duration_minutes = length(local.copies) > 0 && var.snapshot_copy_duration_minutes > 0 ? var.snapshot_copy_duration_minutes : null

  run_tags        = merge(local.run_tags, local.begun_tags)
  run_volume_tags = local.run_tags
  tags            = merge(var.extra_tags, local.run_tags, local.begun_tags, local.image_tags, local.fingerprint_tags)
}

build {
  sources = ["source.amazon-ebs.gpu"]

  # Each provisioner is a process of Packer's and has to send its inputs: scripts in a row that may share them have one. A
  # step that gets no secret leaves its files in /tmp, which cleanup.sh empties: to remove them takes two commands of SSH.
  provisioner "shell" {
    scripts          = ["${path.root}/scripts/wait-for-boot.sh", "${path.root}/scripts/update-system.sh"]
    execute_command  = local.as_root
    use_env_var_file = true
    skip_clean       = true
    env              = { UPDATE_CONTAINER_STACK = var.update_container_stack ? "1" : "0" }
  }

  provisioner "shell" {
    script           = "${path.root}/scripts/check-disk.sh"
    execute_command  = local.as_root
    use_env_var_file = true
    skip_clean       = true
    env = merge(local.image_env, {
      AWS_DEFAULT_REGION = var.region
      MIN_FREE_GIB       = var.min_free_gib
      MODELS_DIR         = var.models_dir
      MODELS_S3_BUCKET   = var.models_s3_bucket
    })
  }

  provisioner "shell" {
    scripts          = ["${path.root}/scripts/login-ecr.sh", "${path.root}/scripts/pull-image.sh"]
    execute_command  = local.as_root
    use_env_var_file = true
    skip_clean       = true
    env              = local.image_env
  }

  provisioner "shell" {
    script           = "${path.root}/scripts/download-models.sh"
    execute_command  = local.as_root
    use_env_var_file = true
    env = {
      AWS_DEFAULT_REGION = var.region
      MIN_FREE_GIB       = var.min_free_gib
      MODELS_DIR         = var.models_dir
      MODELS_S3_BUCKET   = var.models_s3_bucket
      MODEL_DOWNLOADS    = jsonencode(local.models)
    }
  }

  provisioner "shell" {
    script           = "${path.root}/scripts/configure-ecs.sh"
    execute_command  = local.as_root
    use_env_var_file = true
    env              = local.ecs_env
  }

  # The files that stay in the image, in folders as they lie there.
  provisioner "file" {
    source      = "${path.root}/rootfs"
    destination = "/tmp"
  }

  provisioner "shell" {
    script           = "${path.root}/scripts/install-prewarm.sh"
    execute_command  = local.as_root
    use_env_var_file = true
    skip_clean       = true
    env              = merge(local.prewarm_env, { ROOTFS = "/tmp/rootfs" })
  }

  provisioner "shell" {
    scripts          = ["${path.root}/scripts/verify-gpu.sh", "${path.root}/scripts/list-contents.sh"]
    execute_command  = local.as_root
    use_env_var_file = true
    skip_clean       = true
    env = merge(local.image_env, {
      FAMILY           = var.family
      MODELS_DIR       = var.models_dir
      MPS_PIPE         = var.mps_pipe
      PIPELINE_VERSION = var.pipeline_version
      REQUIRE_GPU      = var.require_gpu ? "1" : "0"
      RUN_ID           = local.run_id
      SOURCE_AMI       = build.SourceAMI
      SOURCE_AMI_NAME  = build.SourceAMIName
      STARTED_AT       = local.now
      TEST_IMAGE       = "${var.ecr_repository_url}:${var.image_tag}"
    })
  }

  provisioner "file" {
    direction   = "download"
    source      = "/run/gpu-ami/contents.json"
    destination = local.contents_path
  }

  # Composes the bill of materials here, of that list. Whatever becomes of it, the bake goes on: the record then says that
  # there is none, and so does whoever reads it.
  provisioner "shell-local" {
    inline           = [var.bill_command == "" ? "echo No bill of materials is composed without bill_command." : var.bill_command]
    valid_exit_codes = range(-1, 256)
    # The plugin's own words for it break at a blank in TMPDIR, and cannot run a script where that is mounted noexec.
    execute_command = fileexists("/bin/sh") ? ["/bin/sh", "-e", "{{ .Script }}"] : null
  }

  # Packer evaluates a provisioner's block when its turn comes, so the digest is of the bill that was just composed. One
  # that does not name this run was left by another: by hand they share a path.
  provisioner "shell" {
    script           = "${path.root}/scripts/write-release.sh"
    execute_command  = local.as_root
    use_env_var_file = true
    skip_clean       = true
    env = {
      BILL_SHA256 = var.bill_command == "" ? "" : try(length(split("\"${local.run_id}\"", file(local.bill_path))) > 1 ? sha256(file(local.bill_path)) : "", "")
      GIT_COMMIT  = var.git_commit
      MPS_PIPE    = var.mps_pipe
      STARTED_AT  = local.now
    }
  }

  provisioner "file" {
    direction   = "download"
    source      = "/etc/gpu-ami-release.json"
    destination = local.release_path
  }

  provisioner "shell" {
    script           = "${path.root}/scripts/cleanup.sh"
    execute_command  = local.as_root
    use_env_var_file = true
    skip_clean       = true
  }

  # Last, and after cleanup: what it sees is what the snapshot will hold.
  provisioner "shell" {
    script           = "${path.root}/scripts/validate-image.sh"
    execute_command  = local.as_root
    use_env_var_file = true
    env = merge(local.image_env, local.ecs_env, local.prewarm_env, {
      MIN_FREE_GIB = var.min_free_gib
      MODELS_DIR   = var.models_dir
      MPS_PIPE     = var.mps_pipe
      RUN_ID       = local.run_id
    })
  }

  # Runs when a step above fails, while the builder still exists: its logs go to Packer's own output.
  error-cleanup-provisioner "shell" {
    script           = "${path.root}/scripts/collect-logs.sh"
    execute_command  = local.as_root
    use_env_var_file = true
  }

  post-processor "manifest" {
    output     = local.manifest_path
    strip_path = true
    custom_data = merge({ for fact, value in var.fingerprints : "fingerprint_${fact}" => value }, {
      run_id           = local.run_id
      family           = var.family
      region           = var.region
      pipeline_version = var.pipeline_version
      git_commit       = var.git_commit
      source_ami       = build.SourceAMI
      source_ami_name  = build.SourceAMIName
      instance_type    = var.spot ? join(",", var.spot_instance_types) : var.instance_type
      volume_size_gib  = var.volume_size_gib
      repository_url   = var.ecr_repository_url
      image_tag        = var.image_tag
      image_digest     = var.image_digest
      models_s3_bucket = var.models_s3_bucket
      chain_length     = var.chain_length
    })
  }

  # A statement of what the AMI was made from, by whom, signed where there is a signer. This block is evaluated anew right
  # before it runs, unlike a local: by then there is the release record, byte for byte as the builder wrote it. The file's
  # name holds every AMI with its region, and a file system takes 255 bytes: with a sixth region there is none.
  post-processor "provenance" {
    provenance          = length(local.copies) < 5
    output_dir          = var.provenance_folder != null ? var.provenance_folder : path.root
    template            = "packer/aws-gpu-ami.pkr.hcl"
    signing_mode        = local.signing
    signer              = contains(["key", "kms"], local.signing) ? var.provenance_signer : null
    upload_tlog         = local.signing == "keyless"
    keyless_identity    = local.signing == "keyless" ? var.provenance_identity : null
    keyless_oidc_issuer = local.signing == "keyless" ? var.provenance_issuer : null

    # What tags repeat is compared with these.
    user_variables = merge({ for fact, value in var.fingerprints : "fingerprint_${fact}" => value }, {
      run_id           = local.run_id
      family           = var.family
      pipeline_version = var.pipeline_version
      git_commit       = var.git_commit
      source_ami       = build.SourceAMI
      source_ami_name  = build.SourceAMIName
      image_repository = var.ecr_repository_url
      image_digest     = fileexists(local.release_path) ? try(jsondecode(file(local.release_path)).image.digest, "") : ""
      models_digest    = fileexists(local.release_path) ? try(jsondecode(file(local.release_path)).models.digest, "") : ""
      release_sha256   = fileexists(local.release_path) ? sha256(file(local.release_path)) : ""
      sandbox          = var.ssh_host != null ? "true" : "false"
    }, { for name in local.unstated : name => "left out" })
  }
}

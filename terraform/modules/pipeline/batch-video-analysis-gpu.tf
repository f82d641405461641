# Compute environments, job queue and job definition of the GPU video analysis.
#
# No environment has a name or prefix: the provider makes a unique one, the arguments for it differ between aws 5 and 6,
# and a fixed name would stop a replacement at "found existing JobQueue relationship".

locals {
  # In the order in which the queue tries them.
  environments = {
    for market, wanted in {
      spot = {
        type = "SPOT", strategy = var.spot_allocation_strategy, min_vcpus = var.spot_min_vcpus, max_vcpus = var.spot_max_vcpus
      }
      on_demand = {
        type = "EC2", strategy = "BEST_FIT_PROGRESSIVE", min_vcpus = var.on_demand_min_vcpus, max_vcpus = var.on_demand_max_vcpus
      }
    } : market => wanted if wanted.max_vcpus > 0
  }
  queue_order = [for market in ["spot", "on_demand"] : market if contains(keys(local.environments), market)]
}

resource "aws_batch_compute_environment" "video_analysis_gpu" {
  for_each = local.environments

  type = "MANAGED"
  # No service_role: with any other than Batch's own service-linked role a new AMI replaces the environment.

  compute_resources {
    type                = each.value.type
    allocation_strategy = each.value.strategy
    instance_type       = var.instance_types
    instance_role       = aws_iam_instance_profile.instance.arn
    min_vcpus           = each.value.min_vcpus
    max_vcpus           = each.value.max_vcpus
    subnets             = var.subnet_ids
    security_group_ids  = var.security_group_ids

    ec2_configuration {
      image_type        = "ECS_AL2023_NVIDIA"
      image_id_override = var.gpu_ami_id
    }

    launch_template {
      launch_template_id = aws_launch_template.video_analysis_gpu.id
      # A number, so that a new version is an update: Batch keeps its own copy of $Latest.
      version = aws_launch_template.video_analysis_gpu.latest_version
    }
  }

  update_policy {
    job_execution_timeout_minutes = var.update_timeout_minutes
    terminate_jobs_on_update      = false
  }

  lifecycle {
    create_before_destroy = true
    # Batch sets it as jobs come and go.
    ignore_changes = [compute_resources[0].desired_vcpus]
  }

  # Without its permissions an environment cannot be deleted.
  depends_on = [aws_iam_role_policy.instance]
}

resource "aws_batch_job_queue" "video_analysis_gpu" {
  count = var.create_job_queue ? 1 : 0

  name     = var.family
  state    = "ENABLED"
  priority = 1

  dynamic "compute_environment_order" {
    for_each = local.queue_order
    content {
      order               = compute_environment_order.key
      compute_environment = aws_batch_compute_environment.video_analysis_gpu[compute_environment_order.value].arn
    }
  }
}

resource "aws_batch_job_definition" "video_analysis_gpu" {
  count = var.job_image == null ? 0 : 1

  name                  = var.family
  type                  = "container"
  platform_capabilities = ["EC2"]
  propagate_tags        = true

  container_properties = jsonencode({
    image            = var.job_image
    command          = var.job_command
    jobRoleArn       = aws_iam_role.job.arn
    executionRoleArn = aws_iam_role.execution.arn
    environment      = [for name in sort(keys(local.job_environment)) : { name = name, value = local.job_environment[name] }]
    resourceRequirements = [
      { type = "GPU", value = tostring(var.job_gpus) },
      { type = "MEMORY", value = tostring(var.job_memory_mib) },
      { type = "VCPU", value = tostring(var.job_vcpus) },
    ]
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.jobs.name
        awslogs-region        = local.region
        awslogs-stream-prefix = var.family
      }
    }
  })

  timeout {
    attempt_duration_seconds = var.job_timeout_minutes * 60
  }

  retry_strategy {
    attempts = var.job_attempts

    # A reclaimed Spot Instance: "Host EC2 (instance i-...) terminated."
    evaluate_on_exit {
      action           = "RETRY"
      on_status_reason = "Host EC2*"
    }

    # A container that did not come up in time, as on a volume that is still cold.
    evaluate_on_exit {
      action    = "RETRY"
      on_reason = "DockerTimeoutError*"
    }

    # Everything else is the job's own failure.
    evaluate_on_exit {
      action    = "EXIT"
      on_reason = "*"
    }
  }
}

locals {
  # Not every SDK asks the metadata service for the region.
  job_environment = merge({ AWS_DEFAULT_REGION = local.region }, var.job_environment)
}

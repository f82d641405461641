# How Batch starts an instance of the AMI. The AMI itself is in the compute environment's ec2_configuration.

resource "aws_launch_template" "video_analysis_gpu" {
  name_prefix            = "${var.family}-"
  description            = "Batch instances of ${var.family}"
  update_default_version = true
  user_data              = base64encode(local.user_data)

  block_device_mappings {
    device_name = "/dev/xvda"

    ebs {
      volume_type           = "gp3"
      volume_size           = var.volume_size_gib
      iops                  = var.volume_iops
      throughput            = var.volume_throughput_mib_s
      delete_on_termination = true
      # EBS reads the snapshot in at this rate; without it each block waits for S3 on its first touch.
      volume_initialization_rate = var.volume_initialization_rate_mib_s
    }
  }

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = var.metadata_hop_limit
  }

  dynamic "tag_specifications" {
    for_each = ["instance", "volume"]
    content {
      resource_type = tag_specifications.value
      tags          = merge(var.tags, { Name = "${var.family} batch" })
    }
  }

  lifecycle {
    create_before_destroy = true
  }
}

locals {
  # Batch takes MIME multi-part only, and puts it after its own part, which switches image clean-up on again; the last line
  # of a key wins. What the AMI says of other keys stays: Batch leaves those alone. The ECS agent starts after all of this.
  user_data = templatefile("${path.module}/user-data.mime.tftpl", {
    settings = merge({ ECS_DISABLE_IMAGE_CLEANUP = "true" }, var.ecs_settings)
  })
}

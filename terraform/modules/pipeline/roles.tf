# Three roles: the instance joins its cluster, the execution role pulls and logs for the job, the job role is the job's own.

data "aws_iam_policy_document" "assume" {
  for_each = {
    instance  = "ec2.${data.aws_partition.current.dns_suffix}"
    execution = "ecs-tasks.amazonaws.com"
    job       = "ecs-tasks.amazonaws.com"
  }

  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = [each.value]
    }

    # A task of another account must not talk ECS into using these.
    dynamic "condition" {
      for_each = each.key == "instance" ? [] : [local.account]
      content {
        test     = "StringEquals"
        variable = "aws:SourceAccount"
        values   = [condition.value]
      }
    }
  }
}

data "aws_iam_policy_document" "image_and_logs" {
  statement {
    sid       = "LogInToEcr"
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"]
  }

  statement {
    sid       = "PullTheImage"
    actions   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    resources = [var.ecr_repository_arn]
  }

  statement {
    sid       = "WriteTheLog"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.jobs.arn}:*"]
  }
}

# --- Instance ------------------------------------------------------------------------------------

# Jobs are on the host's network and can take these credentials from the metadata service: nothing else belongs here.

data "aws_iam_policy_document" "instance" {
  source_policy_documents = [data.aws_iam_policy_document.image_and_logs.json]

  statement {
    sid       = "FindTheAgentsEndpoint"
    actions   = ["ecs:DiscoverPollEndpoint", "ec2:DescribeTags"]
    resources = ["*"]
  }

  statement {
    sid = "BeAnInstanceOfBatchsCluster"
    actions = [
      "ecs:DeregisterContainerInstance",
      "ecs:Poll",
      "ecs:RegisterContainerInstance",
      "ecs:StartTelemetrySession",
      "ecs:SubmitAttachmentStateChanges",
      "ecs:SubmitContainerStateChange",
      "ecs:SubmitTaskStateChange",
      "ecs:UpdateContainerInstancesState",
    ]
    # Batch names its clusters itself.
    resources = ["arn:${local.partition}:ecs:${local.region}:${local.account}:*"]
  }

  statement {
    sid       = "RegisterWithTags"
    actions   = ["ecs:TagResource"]
    resources = ["arn:${local.partition}:ecs:${local.region}:${local.account}:*"]

    condition {
      test     = "StringEquals"
      variable = "ecs:CreateAction"
      values   = ["RegisterContainerInstance"]
    }
  }
}

resource "aws_iam_role" "instance" {
  name_prefix        = "${local.role_prefix}-instance-"
  description        = "Batch instances of ${var.family}"
  assume_role_policy = data.aws_iam_policy_document.assume["instance"].json
}

resource "aws_iam_role_policy" "instance" {
  name   = "ecs-instance"
  role   = aws_iam_role.instance.id
  policy = data.aws_iam_policy_document.instance.json
}

resource "aws_iam_instance_profile" "instance" {
  name_prefix = "${local.role_prefix}-instance-"
  role        = aws_iam_role.instance.name
}

# --- Execution -----------------------------------------------------------------------------------

resource "aws_iam_role" "execution" {
  name_prefix        = "${local.role_prefix}-exec-"
  description        = "Pulls the image and writes the log for jobs of ${var.family}"
  assume_role_policy = data.aws_iam_policy_document.assume["execution"].json
}

resource "aws_iam_role_policy" "execution" {
  name   = "image-and-logs"
  role   = aws_iam_role.execution.id
  policy = data.aws_iam_policy_document.image_and_logs.json
}

# --- Job -----------------------------------------------------------------------------------------

resource "aws_iam_role" "job" {
  name_prefix        = "${local.role_prefix}-job-"
  description        = "What jobs of ${var.family} may do"
  assume_role_policy = data.aws_iam_policy_document.assume["job"].json
}

resource "aws_iam_role_policy" "job" {
  count = var.job_policy_json == null ? 0 : 1

  name   = "job"
  role   = aws_iam_role.job.id
  policy = var.job_policy_json
}

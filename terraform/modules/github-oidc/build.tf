# Baking: what Packer does with the amazon-ebs builder, and what is looked up before.

locals {
  # With a named key the plugin copies the AMI within its own region too.
  copy_regions = length(var.ami_regions) == 0 ? [] : distinct(concat(var.ami_regions, length(var.kms_key_arns) > 0 ? [local.region] : []))
}

data "aws_iam_policy_document" "build" {
  source_policy_documents = concat([data.aws_iam_policy_document.look.json], data.aws_iam_policy_document.verify[*].json)

  statement {
    sid = "LaunchWithWhatIsThere"
    # The subnet, group, base AMI and key that a launch uses carry no tag of ours, or not all of them.
    actions = ["ec2:RunInstances"]
    resources = [
      local.images,
      local.snapshots,
      "${local.ec2}:key-pair/*",
      "${local.ec2}:launch-template/*",
      "${local.ec2}:network-interface/*",
      "${local.ec2}:security-group/*",
      "${local.ec2}:subnet/*",
    ]
  }

  statement {
    sid     = "MakeWhatIsTaggedAsOurs"
    actions = ["ec2:CreateKeyPair", "ec2:CreateSecurityGroup", "ec2:RunInstances"]
    resources = [
      "${local.ec2}:instance/*",
      "${local.ec2}:key-pair/*",
      "${local.ec2}:security-group/*",
      "${local.ec2}:volume/*",
    ]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/${local.pipeline_tag}"
      values   = [local.pipeline]
    }
  }

  statement {
    sid       = "MakeGroupsInAnyVpc"
    actions   = ["ec2:CreateSecurityGroup"]
    resources = ["${local.ec2}:vpc/*"]
  }

  dynamic "statement" {
    for_each = var.state_bucket == null ? [] : [var.state_bucket]
    content {
      sid       = "KeepTheArchive"
      actions   = ["s3:PutObject"]
      resources = ["arn:${local.partition}:s3:::${statement.value}/${local.builds}*"]
    }
  }

  dynamic "statement" {
    for_each = var.allow_spot_builds ? ["a fleet of one, from a temporary template"] : []
    content {
      sid     = "BuildOnSpot"
      actions = ["ec2:CreateFleet", "ec2:CreateLaunchTemplate"]
      resources = [
        local.images,
        local.snapshots,
        "${local.ec2}:fleet/*",
        "${local.ec2}:instance/*",
        "${local.ec2}:key-pair/*",
        "${local.ec2}:launch-template/*",
        "${local.ec2}:network-interface/*",
        "${local.ec2}:security-group/*",
        "${local.ec2}:spot-instances-request/*",
        "${local.ec2}:subnet/*",
        "${local.ec2}:volume/*",
      ]
    }
  }

  dynamic "statement" {
    for_each = var.allow_spot_builds ? ["the launch behind the fleet"] : []
    content {
      sid       = "LaunchByASpotRequest"
      actions   = ["ec2:RunInstances"]
      resources = ["${local.ec2}:spot-instances-request/*"]
    }
  }

  # After the launch the plugin tags the request, and once more what the fleet's template has tagged: calls of their own.
  # Nothing here works on a request, so its tag grants nothing.
  dynamic "statement" {
    for_each = var.allow_spot_builds ? ["no fleet tags it"] : []
    content {
      sid       = "TagASpotRequest"
      actions   = ["ec2:CreateTags"]
      resources = ["${local.ec2}:spot-instances-request/*"]

      condition {
        test     = "StringEquals"
        variable = "aws:RequestTag/${local.pipeline_tag}"
        values   = [local.pipeline]
      }
    }
  }

  dynamic "statement" {
    for_each = var.allow_spot_builds ? ["with the tags that they have"] : []
    content {
      sid       = "TagASpotBuilderOnceMore"
      actions   = ["ec2:CreateTags"]
      resources = ["${local.ec2}:instance/*", "${local.ec2}:volume/*"]

      condition {
        test     = "StringEquals"
        variable = "aws:ResourceTag/${local.pipeline_tag}"
        values   = [local.pipeline]
      }

      condition {
        test     = "Null"
        variable = "aws:ResourceTag/${local.run_tag}"
        values   = ["false"]
      }
    }
  }

  statement {
    sid     = "TagInTheActOfMaking"
    actions = ["ec2:CreateTags"]
    resources = [
      local.images,
      local.snapshots,
      "${local.ec2}:fleet/*",
      "${local.ec2}:instance/*",
      "${local.ec2}:key-pair/*",
      "${local.ec2}:launch-template/*",
      "${local.ec2}:network-interface/*",
      "${local.ec2}:security-group/*",
      "${local.ec2}:volume/*",
    ]

    condition {
      test     = "StringEquals"
      variable = "ec2:CreateAction"
      values = [
        "CopyImage",
        "CreateFleet",
        "CreateImage",
        "CreateKeyPair",
        "CreateLaunchTemplate",
        "CreateSecurityGroup",
        "RunInstances",
      ]
    }
  }

  # From here on only what this or another build has made.
  statement {
    sid = "WorkOnABuildsOwn"
    actions = [
      "ec2:AuthorizeSecurityGroupEgress",
      "ec2:AuthorizeSecurityGroupIngress",
      "ec2:DeleteKeyPair",
      "ec2:DeleteLaunchTemplate",
      "ec2:DeleteSecurityGroup",
      "ec2:DeleteVolume",
      "ec2:EnableImageDeprecation",
      "ec2:EnableImageDeregistrationProtection",
      "ec2:ModifyImageAttribute",
      "ec2:ModifyInstanceAttribute",
      "ec2:ModifySnapshotAttribute",
      "ec2:RevokeSecurityGroupEgress",
      "ec2:StopInstances",
      "ec2:TerminateInstances",
    ]
    resources = [local.images, local.snapshots, "${local.ec2}:*"]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/${local.pipeline_tag}"
      values   = [local.pipeline]
    }

    condition {
      test     = "Null"
      variable = "aws:ResourceTag/${local.run_tag}"
      values   = ["false"]
    }
  }

  # A build that fails takes its image back; one that was applied is not a build's any more. A missing tag fits too.
  statement {
    sid       = "FinishOrTakeBackAnImage"
    actions   = ["ec2:CreateTags", "ec2:DeleteSnapshot", "ec2:DeregisterImage"]
    resources = [local.images, local.snapshots]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/${local.pipeline_tag}"
      values   = [local.pipeline]
    }

    condition {
      test     = "StringNotEquals"
      variable = "aws:ResourceTag/gpu-ami:handover"
      values   = ["applied"]
    }
  }

  statement {
    sid       = "MakeTheImageOfABuilder"
    actions   = ["ec2:CreateImage"]
    resources = ["${local.ec2}:instance/*"]

    condition {
      test     = "Null"
      variable = "aws:ResourceTag/${local.run_tag}"
      values   = ["false"]
    }
  }

  statement {
    sid       = "MakeImagesThatAreTaggedAsOurs"
    actions   = ["ec2:CreateImage"]
    resources = [local.images, local.snapshots]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/${local.pipeline_tag}"
      values   = [local.pipeline]
    }
  }

  # The plugin sends no tags with a copy. EC2 gives the new image those of the old one, and the new snapshots none.
  dynamic "statement" {
    for_each = length(local.copy_regions) > 0 ? [local.copy_regions] : []
    content {
      sid       = "CopyAnImage"
      actions   = ["ec2:CopyImage"]
      resources = [local.images, local.snapshots]

      # It is asked for in the region that gets the copy.
      condition {
        test     = "StringEquals"
        variable = "aws:RequestedRegion"
        values   = statement.value
      }
    }
  }

  # The one way to make something ours that is there already. EC2 cannot tell a copy's snapshot from any other that has no
  # tag of ours, so it is open only where the AMI is copied to.
  dynamic "statement" {
    for_each = length(local.copy_regions) > 0 ? [local.copy_regions] : []
    content {
      sid       = "TagTheSnapshotsOfACopy"
      actions   = ["ec2:CreateTags"]
      resources = [for name in statement.value : "arn:${local.partition}:ec2:${name}::snapshot/*"]

      condition {
        test     = "StringEquals"
        variable = "aws:RequestTag/${local.pipeline_tag}"
        values   = [local.pipeline]
      }

      condition {
        test     = "Null"
        variable = "aws:ResourceTag/${local.pipeline_tag}"
        values   = ["true"]
      }
    }
  }

  statement {
    sid       = "GiveTheBuilderItsRole"
    actions   = ["iam:PassRole"]
    resources = concat([var.pass_role_arns.builder], local.verify_role_arns)

    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["ec2.${data.aws_partition.current.dns_suffix}"]
    }
  }

  # Not on this role itself: a simulation knows no tags of a request and would call denied what is allowed. `invoke doctor`
  # tries dry runs instead, with the real tags.
  statement {
    sid     = "LookAtTheBuildersRoleBeforeABuild"
    actions = ["iam:GetInstanceProfile", "iam:GetRole", "iam:SimulatePrincipalPolicy"]
    resources = concat(local.verify_arns, [
      var.pass_role_arns.builder,
      "arn:${local.partition}:iam::${local.account}:instance-profile/${substr(var.family, 0, 26)}-*",
    ])
  }

  statement {
    sid       = "LookAtQuotasBeforeABuild"
    actions   = ["servicequotas:GetServiceQuota"]
    resources = ["*"]
  }

  statement {
    sid       = "LookAtTheImageBeforeABuild"
    actions   = ["ecr:BatchGetImage", "ecr:DescribeImages", "ecr:DescribeRepositories", "ecr:GetLifecyclePolicy"]
    resources = [var.ecr_repository_arn]
  }

  dynamic "statement" {
    for_each = var.models_bucket == "" ? [] : [var.models_bucket]
    content {
      sid       = "LookAtTheModelsBeforeABuild"
      actions   = ["s3:ListBucket"]
      resources = ["arn:${local.partition}:s3:::${statement.value}"]
    }
  }

  dynamic "statement" {
    for_each = length(var.kms_key_arns) > 0 ? [var.kms_key_arns] : []
    content {
      sid       = "EncryptWithOwnKeys"
      actions   = ["kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncrypt*"]
      resources = statement.value
    }
  }

  dynamic "statement" {
    for_each = local.has_signing_key ? [local.signing_key_arn] : []
    content {
      sid       = "SignProvenance"
      actions   = ["kms:Sign"]
      resources = [statement.value]
    }
  }

  dynamic "statement" {
    for_each = var.allow_session_tunnel ? [1] : []
    content {
      sid     = "TunnelToABuilder"
      actions = ["ssm:StartSession"]
      resources = [
        "${local.ec2}:instance/*",
      ]

      condition {
        test     = "Null"
        variable = "ssm:resourceTag/${local.run_tag}"
        values   = ["false"]
      }
    }
  }

  dynamic "statement" {
    for_each = var.allow_session_tunnel ? [1] : []
    content {
      sid     = "ForwardAPort"
      actions = ["ssm:StartSession"]
      resources = [
        "arn:${local.partition}:ssm:*::document/AWS-StartPortForwardingSession",
      ]
    }
  }

  dynamic "statement" {
    for_each = var.allow_session_tunnel ? [1] : []
    content {
      sid       = "EndOwnTunnels"
      actions   = ["ssm:TerminateSession"]
      resources = ["arn:${local.partition}:ssm:*:${local.account}:session/$${aws:userid}-*"]
    }
  }
}

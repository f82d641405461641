# Services that clean-up looks through because something in them may need an AMI, and the account may do without.
#
# What is left out here must be left out of clean-up, too: what cannot be read counts as needed, and nothing is removed then.

locals {
  # By service: what reads it, and which sources of `invoke cleanup` do. None of it has resources or tags to bind it to.
  services = {
    bedrock_agentcore = {
      actions = ["bedrock-agentcore:GetCapacityProvider", "bedrock-agentcore:ListCapacityProviders"]
      sources = ["agentcore"]
    }
    cloudformation = {
      # Without the name of a stack DescribeStacks needs ListStacks, too.
      actions = ["cloudformation:DescribeStacks", "cloudformation:ListStacks"]
      sources = ["stacks"]
    }
    codebuild = {
      actions = ["codebuild:BatchGetFleets", "codebuild:ListFleets"]
      sources = ["codebuild"]
    }
    ecs = {
      actions = ["ecs:DescribeClusters", "ecs:DescribeServices", "ecs:ListClusters", "ecs:ListServices"]
      sources = ["ecs-volumes"]
    }
    # On less than all, Elastic Beanstalk leaves out the rest without a word.
    elastic_beanstalk = {
      actions = [
        "elasticbeanstalk:DescribeApplications",
        "elasticbeanstalk:DescribeConfigurationSettings",
        "elasticbeanstalk:DescribeEnvironments",
        "elasticbeanstalk:DescribePlatformVersion",
        "elasticbeanstalk:ListPlatformVersions",
      ]
      sources = ["beanstalk"]
    }
    emr = {
      actions = [
        "elasticmapreduce:DescribeCluster",
        "elasticmapreduce:ListClusters",
        "elasticmapreduce:ListInstanceFleets",
        "elasticmapreduce:ListInstanceGroups",
      ]
      sources = ["emr"]
    }
    lambda = {
      actions = ["lambda:ListFunctions"]
      sources = ["lambda-functions"]
    }
    maintenance_windows = {
      actions = [
        "ssm:DescribeMaintenanceWindowTasks",
        "ssm:DescribeMaintenanceWindows",
        "ssm:GetMaintenanceWindowTask",
      ]
      sources = ["maintenance-windows"]
    }
    pcs = {
      actions = ["pcs:GetComputeNodeGroup", "pcs:ListClusters", "pcs:ListComputeNodeGroups"]
      sources = ["pcs"]
    }
    rds = {
      actions = ["rds:DescribeDBEngineVersions"]
      sources = ["rds-custom"]
    }
    sagemaker = {
      actions = ["sagemaker:DescribeCluster", "sagemaker:ListClusters"]
      sources = ["hyperpod"]
    }
    scheduler = {
      actions = ["scheduler:GetSchedule", "scheduler:ListSchedules"]
      sources = ["schedules"]
    }
    step_functions = {
      actions = ["states:DescribeStateMachine", "states:ListStateMachineVersions", "states:ListStateMachines"]
      sources = ["state-machines"]
    }
  }

  is_read      = { for name in keys(local.services) : name => lookup(var.read_services, name, true) }
  read_actions = flatten([for name, service in local.services : service.actions if local.is_read[name]])
  skip_sources = flatten([for name, service in local.services : service.sources if !local.is_read[name]])
}

# What people wrote in stacks, functions, definitions, schedules and windows may mention an AMI. It may hold secrets, too.
data "aws_iam_policy_document" "services" {
  dynamic "statement" {
    for_each = length(local.read_actions) > 0 ? [local.read_actions] : []
    content {
      sid       = "LookThroughServices"
      actions   = statement.value
      resources = ["*"]
    }
  }
}

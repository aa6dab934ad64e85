# A role for each kind of machine, one for each voter: it reads its own settings and secrets, uses the bucket's prefix with the
# calls that its kind makes, and writes its own logs. No action has a wildcard. One statement names no resource, because AWS
# has none for it: the password for ECR, which opens nothing by itself.

locals {
  parameter_arn = "arn:${local.partition}:ssm:${local.region}:${local.account}:parameter"
  log_group_arn = "arn:${local.partition}:logs:${local.region}:${local.account}:log-group"
  # The registry of ECR that the image is in, if it is in one.
  ecr = try(regex("^(?P<account>[0-9]{12})\\.dkr\\.ecr\\.(?P<region>[a-z0-9-]+)\\.amazonaws\\.com(?:\\.cn)?/(?P<repository>[^:@]+)", var.image), null)

  # What each kind does with objects. Gateways only read; compactors write Parquet, and leaders collect what nobody names.
  object_actions = {
    voter     = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    gateway   = ["s3:GetObject"]
    compactor = ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"]
  }
  kms_actions = {
    voter     = ["kms:Decrypt", "kms:GenerateDataKey"]
    gateway   = ["kms:Decrypt"]
    compactor = ["kms:Decrypt", "kms:GenerateDataKey"]
  }

  machines = merge(
    {
      for zone, voter in var.voters : "voter-${zone}" => {
        kind    = "voter"
        secrets = compact([voter.tls_secret_arn, var.tokens_secret_arn, var.metrics_token_secret_arn])
      }
    },
    {
      for kind in ["gateway", "compactor"] : kind => {
        kind    = kind
        secrets = compact([var.gateway_tls_secret_arn, var.tokens_secret_arn, var.metrics_token_secret_arn])
      }
    },
  )

  policies = {
    for machine, it in local.machines : machine => {
      Version = "2012-10-17"
      Statement = concat(
        [
          {
            Sid      = "Objects"
            Effect   = "Allow"
            Action   = local.object_actions[it.kind]
            Resource = [local.objects_arn]
          },
          {
            Sid      = "List"
            Effect   = "Allow"
            Action   = ["s3:ListBucket"]
            Resource = [local.bucket_arn]
            # IfExists: a read of what is not there has no prefix, and S3 denies it to whoever may not list then, where Tidelog has
            # to be told that it is not there.
            Condition = { StringLikeIfExists = { "s3:prefix" = [var.bucket_prefix, "${var.bucket_prefix}/*"] } }
          },
          {
            Sid      = "Settings"
            Effect   = "Allow"
            Action   = ["ssm:GetParameter"]
            Resource = ["${local.parameter_arn}/${var.name}/${machine}"]
          },
          {
            Sid    = "Logs"
            Effect = "Allow"
            Action = ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"]
            Resource = [
              "${local.log_group_arn}:/tidelog/${var.name}/${it.kind}:*",
              "${local.log_group_arn}:/tidelog/${var.name}/metrics:*",
            ]
          },
        ],
        length(it.secrets) == 0 ? [] : [
          { Sid = "Secrets", Effect = "Allow", Action = ["secretsmanager:GetSecretValue"], Resource = it.secrets },
        ],
        var.kms_key_arn == null ? [] : [
          { Sid = "Key", Effect = "Allow", Action = local.kms_actions[it.kind], Resource = [var.kms_key_arn] },
        ],
        local.ecr == null ? [] : [
          {
            Sid      = "Image"
            Effect   = "Allow"
            Action   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
            Resource = ["arn:${local.partition}:ecr:${local.ecr.region}:${local.ecr.account}:repository/${local.ecr.repository}"]
          },
          { Sid = "RegistryPassword", Effect = "Allow", Action = ["ecr:GetAuthorizationToken"], Resource = ["*"] },
        ],
      )
    }
  }
}

resource "aws_iam_role" "machine" {
  for_each    = local.machines
  name        = "${var.name}-${each.key}-${local.region}"
  description = "Tidelog cluster ${var.name}: ${each.key}"
  tags        = local.tags

  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = "ec2.amazonaws.com" } }]
  })
}

resource "aws_iam_role_policy" "machine" {
  for_each = local.machines
  name     = "tidelog"
  role     = aws_iam_role.machine[each.key].id
  policy   = jsonencode(local.policies[each.key])
}

resource "aws_iam_instance_profile" "machine" {
  for_each = local.machines
  name     = "${var.name}-${each.key}-${local.region}"
  role     = aws_iam_role.machine[each.key].name
  tags     = local.tags
}

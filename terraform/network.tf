# Three private subnets without a way out: what the machines need of AWS is reached by endpoints, and S3 by a gateway endpoint,
# which costs nothing. Public subnets exist only for a public load balancer.

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  zones      = sort(keys(var.voters))
  create_vpc = var.vpc_id == null
  account    = data.aws_caller_identity.current.account_id
  partition  = data.aws_partition.current.partition
  region     = data.aws_region.current.name
  tags       = merge(var.tags, { "tidelog:cluster" = var.name })

  vpc_id     = local.create_vpc ? aws_vpc.this[0].id : var.vpc_id
  vpc_cidr   = local.create_vpc ? var.vpc_cidr : data.aws_vpc.existing[0].cidr_block
  subnet_ids = local.create_vpc ? { for zone, subnet in aws_subnet.private : zone => subnet.id } : var.subnet_ids
  subnet_cidrs = {
    for at, zone in local.zones : zone => local.create_vpc ? cidrsubnet(var.vpc_cidr, 4, at) : data.aws_subnet.existing[zone].cidr_block
  }
  public_subnet_ids = local.create_vpc ? { for zone, subnet in aws_subnet.public : zone => subnet.id } : var.public_subnet_ids
  route_table_ids   = local.create_vpc ? aws_route_table.private[*].id : var.route_table_ids

  interface_services = var.interface_endpoints ? toset(["ecr.api", "ecr.dkr", "logs", "secretsmanager", "ssm"]) : toset([])
}

data "aws_vpc" "existing" {
  count = local.create_vpc ? 0 : 1
  id    = var.vpc_id
}

data "aws_subnet" "existing" {
  for_each = local.create_vpc ? {} : var.subnet_ids
  id       = each.value

  lifecycle {
    postcondition {
      condition     = self.availability_zone == each.key && self.vpc_id == var.vpc_id
      error_message = "subnet_ids: the subnet of ${each.key} is in another zone or another VPC."
    }
  }
}

resource "aws_vpc" "this" {
  count                = local.create_vpc ? 1 : 0
  cidr_block           = var.vpc_cidr
  enable_dns_support   = true
  enable_dns_hostnames = true
  tags                 = merge(local.tags, { Name = var.name })
}

# Nothing is ever put into the default group: it lets nothing through.
resource "aws_default_security_group" "this" {
  count  = local.create_vpc ? 1 : 0
  vpc_id = aws_vpc.this[0].id
  tags   = merge(local.tags, { Name = "${var.name}-unused" })
}

resource "aws_subnet" "private" {
  for_each          = local.create_vpc ? toset(local.zones) : toset([])
  vpc_id            = aws_vpc.this[0].id
  availability_zone = each.key
  cidr_block        = cidrsubnet(var.vpc_cidr, 4, index(local.zones, each.key))
  tags              = merge(local.tags, { Name = "${var.name}-private-${each.key}" })
}

resource "aws_route_table" "private" {
  count  = local.create_vpc ? 1 : 0
  vpc_id = aws_vpc.this[0].id
  tags   = merge(local.tags, { Name = "${var.name}-private" })
}

resource "aws_route_table_association" "private" {
  for_each       = aws_subnet.private
  subnet_id      = each.value.id
  route_table_id = aws_route_table.private[0].id
}

resource "aws_subnet" "public" {
  for_each          = local.create_vpc && var.public ? toset(local.zones) : toset([])
  vpc_id            = aws_vpc.this[0].id
  availability_zone = each.key
  cidr_block        = cidrsubnet(var.vpc_cidr, 4, 8 + index(local.zones, each.key))
  tags              = merge(local.tags, { Name = "${var.name}-public-${each.key}" })
}

resource "aws_internet_gateway" "this" {
  count  = local.create_vpc && var.public ? 1 : 0
  vpc_id = aws_vpc.this[0].id
  tags   = merge(local.tags, { Name = var.name })
}

resource "aws_route_table" "public" {
  count  = local.create_vpc && var.public ? 1 : 0
  vpc_id = aws_vpc.this[0].id

  route {
    cidr_block = "0.0.0.0/0"
    gateway_id = aws_internet_gateway.this[0].id
  }

  tags = merge(local.tags, { Name = "${var.name}-public" })
}

resource "aws_route_table_association" "public" {
  for_each       = aws_subnet.public
  subnet_id      = each.value.id
  route_table_id = aws_route_table.public[0].id
}

# Bytes to and from the bucket go through this one: no NAT gateway sees them, or charges for them. Besides the bucket it lets
# through what the machines install themselves from: Amazon Linux's packages and ECR's layers, which lie in buckets of AWS.
resource "aws_vpc_endpoint" "s3" {
  count             = length(local.route_table_ids) > 0 || local.create_vpc ? 1 : 0
  vpc_id            = local.vpc_id
  service_name      = "com.amazonaws.${local.region}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = local.route_table_ids
  policy            = local.create_vpc ? jsonencode(local.s3_endpoint_policy) : null
  tags              = merge(local.tags, { Name = "${var.name}-s3" })
}

locals {
  # A VPC that is somebody else's keeps the open policy: others use it too.
  s3_endpoint_policy = {
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "TheBucket"
        Effect    = "Allow"
        Principal = "*"
        Action    = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListBucket"]
        Resource  = [local.bucket_arn, "${local.bucket_arn}/*"]
      },
      {
        Sid       = "PackagesAndLayers"
        Effect    = "Allow"
        Principal = "*"
        Action    = ["s3:GetObject"]
        Resource = [
          "arn:${local.partition}:s3:::al2023-repos-${local.region}-de612dc2/*",
          "arn:${local.partition}:s3:::prod-${local.region}-starport-layer-bucket/*",
        ]
      },
    ]
  }
}

resource "aws_vpc_endpoint" "interface" {
  for_each            = local.interface_services
  vpc_id              = local.vpc_id
  service_name        = "com.amazonaws.${local.region}.${each.key}"
  vpc_endpoint_type   = "Interface"
  private_dns_enabled = true
  subnet_ids          = values(local.subnet_ids)
  security_group_ids  = [aws_security_group.endpoints.id]
  tags                = merge(local.tags, { Name = "${var.name}-${each.key}" })
}

# What it is called and what it runs

variable "name" {
  description = "Name of the cluster; begins the name of everything that is made."
  type        = string
  default     = "tidelog"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,19}$", var.name))
    error_message = "The name has 2 to 20 characters, lower-case letters, digits and hyphens, and begins with a letter."
  }
}

variable "image" {
  description = "Container image of Tidelog, by tag or better by digest. Voters take a new one at their next restart (roll.sh); gateways and compactors are replaced one after the other."
  type        = string

  validation {
    condition     = can(regex("^[^\\s]+(:[^\\s/]+|@sha256:[0-9a-f]{64})$", var.image)) && !endswith(var.image, ":latest")
    error_message = "The image has a tag other than latest, or a digest: otherwise nobody knows what a restart brings."
  }
}

variable "ami_id" {
  description = "AMI of all machines: Amazon Linux 2023 of the instance types' architecture. Null takes the newest. Voters keep the one they have until they are replaced."
  type        = string
  default     = null

  validation {
    condition     = var.ami_id == null || can(regex("^ami-[0-9a-f]+$", var.ami_id))
    error_message = "The AMI looks like ami-0123456789abcdef0."
  }
}

variable "architecture" {
  description = "Architecture of the image and of the instance types: arm64 or x86_64."
  type        = string
  default     = "arm64"

  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "The architecture is arm64 or x86_64."
  }
}

variable "settings" {
  description = "Further settings of Tidelog, as the environment takes them, without TIDELOG__: { FLUSH__BYTES = \"64MiB\" }. They win over what this module sets."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for key, value in var.settings : can(regex("^[A-Z]+(__[A-Z_]+)+$", key)) && !can(regex("\\n", value))])
    error_message = "Keys look like FLUSH__BYTES, and values have one line."
  }
}

variable "tags" {
  description = "Tags of everything that is made."
  type        = map(string)
  default     = {}
}

# Voters

variable "voters" {
  description = <<-EOT
    The three nodes that keep the log, by availability zone. node_id is a number that no node of this cluster ever had: a voter
    whose volume was lost comes back under a new one (README, "A lost volume"). private_ip is its address for good; null takes
    the tenth of its subnet. tls_secret_arn is a secret {"cert","key","ca"} of PEM whose certificate names node-N.tidelog.
  EOT
  type = map(object({
    node_id        = number
    private_ip     = optional(string)
    tls_secret_arn = optional(string)
  }))

  validation {
    condition     = length(var.voters) == 3
    error_message = "There are three voters, each in an availability zone of its own: with fewer none may be lost."
  }

  validation {
    condition     = alltrue([for zone, voter in var.voters : can(regex("^[a-z]{2}(-[a-z]+)+-[0-9][a-z]$", zone))])
    error_message = "The keys are availability zones, such as eu-central-1a."
  }

  validation {
    condition     = length(distinct([for voter in var.voters : voter.node_id])) == length(var.voters) && alltrue([for voter in var.voters : voter.node_id >= 1 && floor(voter.node_id) == voter.node_id])
    error_message = "Node ids are whole numbers from 1, each once."
  }

  validation {
    condition     = var.insecure || alltrue([for voter in var.voters : voter.tls_secret_arn != null])
    error_message = "Each voter needs tls_secret_arn, unless insecure = true."
  }

  validation {
    condition     = alltrue([for voter in var.voters : voter.tls_secret_arn == null || can(regex("^arn:[^:]+:secretsmanager:[^:]+:[0-9]{12}:secret:.+$", voter.tls_secret_arn))])
    error_message = "tls_secret_arn is the ARN of a secret of Secrets Manager."
  }
}

variable "shards" {
  description = "Raft groups that the partitions are spread over. It may grow, never shrink."
  type        = number
  default     = 3

  validation {
    condition     = var.shards >= 1 && var.shards <= 64 && floor(var.shards) == var.shards
    error_message = "There are 1 to 64 shards."
  }
}

variable "voter_instance_type" {
  description = "Instance type of the voters."
  type        = string
  default     = "m7g.large"
}

variable "wal_volume" {
  description = "Volume of each voter (gp3). Seven tenths of it are wal.budget: how much can be acknowledged while the bucket is away."
  type = object({
    size_gib   = optional(number, 100)
    iops       = optional(number, 3000)
    throughput = optional(number, 250)
  })
  default = {}

  validation {
    condition     = var.wal_volume.size_gib >= 20 && var.wal_volume.size_gib <= 16384
    error_message = "size_gib is between 20 and 16384."
  }

  validation {
    condition     = var.wal_volume.iops >= 3000 && var.wal_volume.iops <= 16000 && var.wal_volume.throughput >= 125 && var.wal_volume.throughput <= 1000
    error_message = "gp3 has 3000 to 16000 IOPS and 125 to 1000 MiB/s."
  }
}

# Gateways and compactors

variable "gateways" {
  description = "Processes that serve clients, in an autoscaling group that grows with their processor time. At least one for each zone, because the load balancer does not cross zones."
  type = object({
    instance_type = optional(string, "c7g.large")
    min           = optional(number, 3)
    max           = optional(number, 12)
    cpu_target    = optional(number, 55)
    cache_gib     = optional(number, 40)
  })
  default = {}

  validation {
    condition     = var.gateways.min >= length(var.voters) && var.gateways.max >= var.gateways.min
    error_message = "gateways.min is at least the number of zones, and gateways.max at least gateways.min."
  }

  validation {
    condition     = var.gateways.cpu_target >= 20 && var.gateways.cpu_target <= 90 && var.gateways.cache_gib >= 10
    error_message = "cpu_target is 20 to 90 percent and cache_gib at least 10."
  }
}

variable "compactors" {
  description = "Processes that turn segments into Parquet, in an autoscaling group that grows when a shard has more than backlog_segments live segments."
  type = object({
    instance_type    = optional(string, "c7g.large")
    min              = optional(number, 1)
    max              = optional(number, 6)
    backlog_segments = optional(number, 512)
    cache_gib        = optional(number, 20)
  })
  default = {}

  validation {
    condition     = var.compactors.min >= 1 && var.compactors.max >= var.compactors.min
    error_message = "compactors.min is at least 1, and compactors.max at least compactors.min."
  }

  validation {
    condition     = var.compactors.backlog_segments >= 64 && var.compactors.cache_gib >= 10
    error_message = "backlog_segments is at least 64 and cache_gib at least 10."
  }
}

# Network

variable "vpc_cidr" {
  description = "Addresses of the VPC that is made if vpc_id is null."
  type        = string
  default     = "10.42.0.0/16"

  validation {
    condition     = can(cidrnetmask(var.vpc_cidr)) && try(tonumber(split("/", var.vpc_cidr)[1]) <= 20, false)
    error_message = "vpc_cidr is an IPv4 range of /20 or more."
  }
}

variable "vpc_id" {
  description = "An existing VPC; then subnet_ids is needed too. Null makes one."
  type        = string
  default     = null
}

variable "subnet_ids" {
  description = "With vpc_id: a private subnet for each zone of voters."
  type        = map(string)
  default     = {}

  validation {
    condition     = var.vpc_id == null ? length(var.subnet_ids) == 0 : toset(keys(var.subnet_ids)) == toset(keys(var.voters))
    error_message = "subnet_ids names one subnet for each zone of voters, and only with vpc_id."
  }
}

variable "public_subnet_ids" {
  description = "With vpc_id and public = true: a public subnet for each zone of voters, for the load balancer."
  type        = map(string)
  default     = {}

  validation {
    condition     = !(var.public && var.vpc_id != null) || toset(keys(var.public_subnet_ids)) == toset(keys(var.voters))
    error_message = "public = true in a VPC of yours needs a public subnet for each zone of voters."
  }
}

variable "route_table_ids" {
  description = "With vpc_id: route tables of the private subnets, to which the gateway endpoint for S3 is added. Empty if the VPC has one."
  type        = list(string)
  default     = []
}

variable "interface_endpoints" {
  description = "Whether interface endpoints for ECR, CloudWatch Logs, Secrets Manager and Systems Manager parameters are made. Without them the private subnets need another way to those services."
  type        = bool
  default     = true
}

variable "client_cidr_blocks" {
  description = "Addresses from which clients reach the load balancer. Empty means the VPC's."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for block in var.client_cidr_blocks : can(cidrnetmask(block))])
    error_message = "client_cidr_blocks has IPv4 ranges."
  }
}

variable "operator_cidr_blocks" {
  description = "Addresses from which operators (roll.sh, tidelog admin) reach the voters' port for operators. Empty leaves it on each machine's loopback."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for block in var.operator_cidr_blocks : can(cidrnetmask(block)) && block != "0.0.0.0/0"])
    error_message = "operator_cidr_blocks has IPv4 ranges, and never all addresses."
  }
}

# Who may call

variable "public" {
  description = "Whether the load balancer has public addresses. Requires TLS and tokens."
  type        = bool
  default     = false

  validation {
    condition     = !(var.public && var.insecure)
    error_message = "public = true requires TLS and tokens: insecure must be false."
  }

  validation {
    condition     = !var.public || length(var.client_cidr_blocks) > 0
    error_message = "public = true requires client_cidr_blocks, even if it says [\"0.0.0.0/0\"]."
  }
}

variable "insecure" {
  description = "Runs without TLS and tokens where they are missing: for a trial in a network that nobody else is in."
  type        = bool
  default     = false
}

variable "certificate_arn" {
  description = "Certificate of ACM for the load balancer's listener."
  type        = string
  default     = null

  validation {
    condition     = var.certificate_arn == null ? var.insecure : can(regex("^arn:[^:]+:(acm|iam):", var.certificate_arn))
    error_message = "certificate_arn is the ARN of a certificate; only insecure = true goes without."
  }
}

variable "gateway_tls_secret_arn" {
  description = "Secret {\"cert\",\"key\",\"ca\"} of PEM of gateways and compactors; the certificate names gateway.tidelog."
  type        = string
  default     = null

  validation {
    condition     = var.gateway_tls_secret_arn == null ? var.insecure : can(regex("^arn:[^:]+:secretsmanager:[^:]+:[0-9]{12}:secret:.+$", var.gateway_tls_secret_arn))
    error_message = "gateway_tls_secret_arn is the ARN of a secret; only insecure = true goes without."
  }
}

variable "tokens_secret_arn" {
  description = "Secret with the file of tokens (lines of tidelog token new): names, roles and hashes, no tokens."
  type        = string
  default     = null

  validation {
    condition     = var.tokens_secret_arn == null ? var.insecure : can(regex("^arn:[^:]+:secretsmanager:[^:]+:[0-9]{12}:secret:.+$", var.tokens_secret_arn))
    error_message = "tokens_secret_arn is the ARN of a secret; only insecure = true goes without."
  }
}

variable "metrics_token_secret_arn" {
  description = "Secret with a token of the role read, with which each machine's CloudWatch agent reads the metrics. Needed beside tokens_secret_arn."
  type        = string
  default     = null

  validation {
    condition     = (var.metrics_token_secret_arn == null) == (var.tokens_secret_arn == null)
    error_message = "metrics_token_secret_arn is set together with tokens_secret_arn."
  }
}

# The bucket

variable "bucket_name" {
  description = "Name of the bucket. Null makes one of the cluster's name, the account and the region."
  type        = string
  default     = null
}

variable "bucket_prefix" {
  description = "Prefix of the cluster's objects in the bucket; the only part that its machines may touch."
  type        = string
  default     = "tidelog"

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9_/-]*[A-Za-z0-9]$", var.bucket_prefix))
    error_message = "The prefix has letters, digits, hyphens, underscores and slashes inside."
  }
}

variable "kms_key_arn" {
  description = "Key of KMS for the bucket, the volumes and the logs. Null takes SSE-S3 and the account's default keys. Its policy has to let CloudWatch Logs use it."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:[^:]+:kms:[^:]+:[0-9]{12}:key/.+$", var.kms_key_arn))
    error_message = "kms_key_arn is the ARN of a key."
  }
}

variable "old_versions_days" {
  description = "Days for which deleted objects can still be had back. Everything is stored for as long once more, as segment and as Parquet."
  type        = number
  default     = 1

  validation {
    condition     = var.old_versions_days >= 1
    error_message = "At least one day."
  }
}

variable "access_log_bucket" {
  description = "Bucket for S3's access log and the load balancer's. Null keeps none."
  type        = string
  default     = null
}

# Watching

variable "log_retention_days" {
  description = "Days for which logs are kept."
  type        = number
  default     = 30

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "CloudWatch takes only certain numbers of days, such as 14, 30 or 90."
  }
}

variable "alarm_topic_arns" {
  description = "SNS topics that alarms go to."
  type        = list(string)
  default     = []
}

variable "deletion_protection" {
  description = "Whether the load balancer and the voters' instances refuse to be deleted."
  type        = bool
  default     = true
}

variable "detailed_monitoring" {
  description = "Whether the machines' own metrics of EC2 come every minute instead of every five."
  type        = bool
  default     = true
}

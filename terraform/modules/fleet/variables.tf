variable "name" {
  description = "Name of the group."
  type        = string
}

variable "ami_id" {
  description = "AMI."
  type        = string
}

variable "instance_type" {
  description = "Instance type."
  type        = string
}

variable "instance_profile" {
  description = "Name of the instance profile."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets, one for each zone."
  type        = list(string)
}

variable "security_group_ids" {
  description = "Security groups."
  type        = list(string)
}

variable "min" {
  description = "Machines at least."
  type        = number
}

variable "max" {
  description = "Machines at most."
  type        = number
}

variable "disk_gib" {
  description = "Size of the disk, on which the block cache is."
  type        = number
}

variable "kms_key_arn" {
  description = "Key of the disk; null takes the account's default key."
  type        = string
  default     = null
}

variable "target_group_arns" {
  description = "Target groups of a load balancer; with one its health checks count."
  type        = list(string)
  default     = []
}

variable "detailed_monitoring" {
  description = "Whether the machines' own metrics come every minute."
  type        = bool
  default     = true
}

variable "user_data" {
  description = "Script of the first boot."
  type        = string
}

variable "tags" {
  description = "Tags."
  type        = map(string)
  default     = {}
}

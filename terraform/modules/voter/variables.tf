variable "name" {
  description = "Name of the voter."
  type        = string
}

variable "ami_id" {
  description = "AMI of a new machine."
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

variable "subnet_id" {
  description = "Subnet of the address."
  type        = string
}

variable "private_ip" {
  description = "The address."
  type        = string
}

variable "security_group_ids" {
  description = "Security groups of the address."
  type        = list(string)
}

variable "volume_id" {
  description = "Volume of the log."
  type        = string
}

variable "kms_key_arn" {
  description = "Key of the root volume; null takes the account's default key."
  type        = string
  default     = null
}

variable "termination_disabled" {
  description = "Whether the machine refuses to be ended."
  type        = bool
}

variable "detailed_monitoring" {
  description = "Whether the machine's own metrics come every minute."
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

variable "region" {
  description = "Region of everything."
  type        = string
  default     = "eu-central-1"
}

variable "image" {
  description = "Container image of Tidelog."
  type        = string
}

variable "ami_id" {
  description = "AMI of all machines; null takes the newest Amazon Linux 2023."
  type        = string
  default     = null
}

variable "certificate_arn" {
  description = "Certificate of ACM for clients."
  type        = string
}

variable "node_secret_arns" {
  description = "Secrets {\"cert\",\"key\",\"ca\"} of the three voters, in the order of their zones."
  type        = list(string)

  validation {
    condition     = length(var.node_secret_arns) == 3
    error_message = "There are three voters."
  }
}

variable "gateway_secret_arn" {
  description = "Secret {\"cert\",\"key\",\"ca\"} of gateways and compactors."
  type        = string
}

variable "tokens_secret_arn" {
  description = "Secret with the file of tokens."
  type        = string
}

variable "metrics_token_secret_arn" {
  description = "Secret with a token of the role read."
  type        = string
}

variable "operator_cidr_blocks" {
  description = "Where operators are."
  type        = list(string)
  default     = ["10.42.200.0/24"]
}

variable "deletion_protection" {
  description = "Off for something that is to be taken down again."
  type        = bool
  default     = true
}

variable "detailed_monitoring" {
  description = "Whether the machines' own metrics come every minute."
  type        = bool
  default     = true
}

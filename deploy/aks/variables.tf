variable "subscription_id" {
  description = "The Azure subscription that pays."
  type        = string
}

variable "name" {
  description = "Prefix of every name; with `suffix` the names of registry, vault and storage must be nobody's else in the world."
  type        = string
  default     = "vireo"
  validation {
    condition     = can(regex("^[a-z][a-z0-9]{2,9}$", var.name))
    error_message = "3 to 10 small letters and digits, a letter first."
  }
}

variable "suffix" {
  description = "Makes names unique: 2 to 8 small letters and digits."
  type        = string
  validation {
    condition     = can(regex("^[a-z0-9]{2,8}$", var.suffix))
    error_message = "2 to 8 small letters and digits."
  }
}

variable "location" {
  description = "Azure region; it needs quota for the GPU size."
  type        = string
  default     = "westeurope"
}

variable "zones" {
  description = "Availability zones of the CPU pools; GPUs go wherever there are any."
  type        = list(string)
  default     = ["1", "2", "3"]
}

variable "kubernetes_version" {
  description = "Minor version of Kubernetes; AKS takes the newest patch."
  type        = string
  default     = "1.33"
}

variable "api_server_ranges" {
  description = "Addresses from which the Kubernetes API may be called, in CIDR notation."
  type        = list(string)
  validation {
    condition     = length(var.api_server_ranges) > 0 && !contains(var.api_server_ranges, "0.0.0.0/0")
    error_message = "Name your own ranges, not the whole Internet."
  }
}

variable "admin_group_ids" {
  description = "Object ids of the Entra groups that administer the cluster."
  type        = list(string)
}

variable "system_size" {
  description = "VM size of the system pool, where Ray's head runs too."
  type        = string
  default     = "Standard_D4s_v5"
}

variable "cpu_size" {
  description = "VM size of the CPU pool: two ingress pods of 3 cores and 12 GiB fit."
  type        = string
  default     = "Standard_D8s_v5"
}

variable "cpu_nodes_max" {
  description = "Most nodes of the CPU pool."
  type        = number
  default     = 8
}

variable "gpu_size" {
  description = "VM size of the GPU pool: a worker takes 6 cores, 40 GiB and one GPU."
  type        = string
  default     = "Standard_NC24ads_A100_v4"
}

variable "gpu_nodes_max" {
  description = "Most nodes of the GPU pool; there are none while none are wanted."
  type        = number
  default     = 4
}

variable "gpu_spot" {
  description = "Whether GPUs are spot VMs: cheaper, and taken away with 30 seconds' notice."
  type        = bool
  default     = false
}

variable "event_partitions" {
  description = "Partitions of each event hub; they cannot be changed afterwards."
  type        = number
  default     = 8
}

variable "event_units" {
  description = "Throughput units of the Event Hubs namespace to begin with: 1 MB/s in, 2 MB/s out each."
  type        = number
  default     = 2
}

variable "event_hubs" {
  description = "Names of the event hubs, each a topic for Kafka clients."
  type        = set(string)
  default     = ["transactions", "clicks", "dead-letters"]
}

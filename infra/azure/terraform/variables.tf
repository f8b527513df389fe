variable "subscription_id" {
  description = "The subscription to deploy to."
  type        = string
}

variable "resource_group" {
  description = "The resource group, which is made."
  type        = string
  default     = "zeroplane"
}

variable "location" {
  description = "Where everything is. Flex Consumption is not in every region."
  type        = string
  default     = "northeurope"
}

variable "address" {
  description = "The host name that clients use; empty for the app's own."
  type        = string
  default     = ""
}

variable "seal_key" {
  description = "The key that seals clusters' keys, 32 random bytes in base64. It is written when the secret is made, never read back, and in no state; later values are ignored."
  type        = string
  sensitive   = true
  ephemeral   = true
}

variable "webhook_token" {
  description = "A bearer token of the default cluster that may post events. With one, bells are pushed through Event Grid. The provider keeps it in the state."
  type        = string
  sensitive   = true
  default     = ""
}

variable "authentication_config" {
  description = "An AuthenticationConfiguration, the whole document: whose tokens the API accepts (docs/entra.md). Empty for the clusters' own alone."
  type        = string
  default     = ""
}

variable "stream_topic" {
  description = "The endpoint of a topic of an Event Grid namespace, https://NAMESPACE.REGION-1.eventgrid.azure.net/topics/TOPIC, that gets the stream of changes; empty: none does. The identity needs the right to send to it."
  type        = string
  default     = ""
}

variable "instance_memory_mb" {
  description = "Memory of an instance, in MB. Billing is by this figure."
  type        = number
  default     = 512
  validation {
    condition     = contains([512, 2048, 4096], var.instance_memory_mb)
    error_message = "instance_memory_mb must be 512, 2048 or 4096."
  }
}

variable "http_concurrency" {
  description = "Requests that one instance takes at a time, held watches among them. Too few, and open watches force further instances, each billed while a watch is open."
  type        = number
  default     = 1000
  validation {
    condition     = var.http_concurrency >= 1 && var.http_concurrency <= 1000
    error_message = "http_concurrency must be from 1 to 1000."
  }
}

variable "maximum_instance_count" {
  description = "Instances at most, of all functions together. It bounds the bill."
  type        = number
  default     = 40
  validation {
    condition     = var.maximum_instance_count >= 1 && var.maximum_instance_count <= 1000
    error_message = "maximum_instance_count must be from 1 to 1000."
  }
}

variable "alert_email" {
  description = "The mail address that alerts and the budget's notices go to; empty makes neither."
  type        = string
  default     = ""
}

variable "budget_amount" {
  description = "The monthly budget, in the subscription's currency."
  type        = number
  default     = 50
}

variable "budget_start" {
  description = "The first day of the month in which the budget begins, as 2026-11-01T00:00:00Z. It cannot be moved once the budget is made."
  type        = string
  default     = "2026-11-01T00:00:00Z"
}

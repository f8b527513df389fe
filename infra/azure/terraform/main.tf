# A zeroplane on Azure: what infra/azure/bicep/main.bicep deploys, for those who use Terraform or OpenTofu.
# infra/azure/terraform/deploy.sh applies it; docs/deploy-azure.md says what it is and what it costs.

data "azurerm_client_config" "current" {}

resource "random_string" "suffix" {
  length  = 13
  upper   = false
  special = false
}

locals {
  suffix   = random_string.suffix.result
  app_name = "zeroplane-${local.suffix}"
  address  = var.address == "" ? "${local.app_name}.azurewebsites.net" : var.address
  push     = nonsensitive(var.webhook_token != "")
  alerts   = var.alert_email == "" ? 0 : 1

  # The names that the program, its triggers and this file agree on; tests/infra holds them together.
  table_name           = "zeroplane"
  bells_queue_name     = "zeroplane-bells"
  poison_queue_name    = "zeroplane-bells-poison"
  seal_key_name        = "zeroplane-seal-key"
  deployment_container = "deployment"
  dead_letters         = "dead-letters"
  # The host's own, made here so that the identity needs no right to make any: its locks and the timer's schedule, and
  # its keys.
  host_containers = ["azure-webjobs-hosts", "azure-webjobs-secrets"]
}

resource "azurerm_resource_group" "this" {
  name     = var.resource_group
  location = var.location
}

resource "azurerm_user_assigned_identity" "app" {
  name                = "zeroplane-${local.suffix}"
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
}

# Storage. There are no keys: everything is let in by the identity. Tables, queues and containers are made through the
# resource manager; the provider's own table resource would need a key.

resource "azurerm_storage_account" "this" {
  name                            = "zp${local.suffix}"
  resource_group_name             = azurerm_resource_group.this.name
  location                        = azurerm_resource_group.this.location
  account_kind                    = "StorageV2"
  account_tier                    = "Standard"
  account_replication_type        = "LRS"
  allow_nested_items_to_be_public = false
  default_to_oauth_authentication = true
  https_traffic_only_enabled      = true
  min_tls_version                 = "TLS1_2"
  shared_access_key_enabled       = false
}

resource "azapi_resource" "table" {
  type      = "Microsoft.Storage/storageAccounts/tableServices/tables@2024-01-01"
  name      = local.table_name
  parent_id = "${azurerm_storage_account.this.id}/tableServices/default"
}

resource "azapi_resource" "queue" {
  for_each  = toset([local.bells_queue_name, local.poison_queue_name])
  type      = "Microsoft.Storage/storageAccounts/queueServices/queues@2024-01-01"
  name      = each.value
  parent_id = "${azurerm_storage_account.this.id}/queueServices/default"
}

resource "azapi_resource" "container" {
  for_each  = toset(concat([local.deployment_container, local.dead_letters], local.host_containers))
  type      = "Microsoft.Storage/storageAccounts/blobServices/containers@2024-01-01"
  name      = each.value
  parent_id = "${azurerm_storage_account.this.id}/blobServices/default"
}

# The seal key. Written through the resource manager, so that who deploys needs no right to the vault's data.

resource "azurerm_key_vault" "this" {
  name                       = "zeroplane-${local.suffix}"
  resource_group_name        = azurerm_resource_group.this.name
  location                   = azurerm_resource_group.this.location
  tenant_id                  = data.azurerm_client_config.current.tenant_id
  sku_name                   = "standard"
  rbac_authorization_enabled = true
  soft_delete_retention_days = 90
}

resource "azapi_resource" "seal_key" {
  type      = "Microsoft.KeyVault/vaults/secrets@2023-07-01"
  name      = local.seal_key_name
  parent_id = azurerm_key_vault.this.id
  sensitive_body = {
    properties = {
      value = var.seal_key
    }
  }
  # The value is sent again only if this changes. It must not: what the first key has sealed, no other opens.
  sensitive_body_version = {
    "properties.value" = "1"
  }
}

# Logs.

resource "azurerm_log_analytics_workspace" "this" {
  name                = "zeroplane-${local.suffix}"
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  sku                 = "PerGB2018"
  retention_in_days   = 30
  daily_quota_gb      = 1
}

resource "azurerm_application_insights" "this" {
  name                          = "zeroplane-${local.suffix}"
  resource_group_name           = azurerm_resource_group.this.name
  location                      = azurerm_resource_group.this.location
  application_type              = "web"
  workspace_id                  = azurerm_log_analytics_workspace.this.id
  local_authentication_disabled = true
}

# Writes to queues alone: the platform's queue metric counts all queues of an account together, once an hour, so the
# alert on the poison queue reads these.
resource "azurerm_monitor_diagnostic_setting" "queues" {
  name                       = "zeroplane"
  target_resource_id         = "${azurerm_storage_account.this.id}/queueServices/default"
  log_analytics_workspace_id = azurerm_log_analytics_workspace.this.id
  enabled_log {
    category = "StorageWrite"
  }
}

# Doorbells over HTTP.

resource "azurerm_eventgrid_topic" "this" {
  name                = "zeroplane-${local.suffix}"
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  input_schema        = "CloudEventSchemaV1_0"
  local_auth_enabled  = false
  identity {
    type = "SystemAssigned"
  }
}

# Event Grid asks the endpoint for its consent when the subscription is made, so the app must have its package by then:
# deploy.sh applies with a token only after that.
resource "azurerm_eventgrid_event_subscription" "bells" {
  count                 = local.push ? 1 : 0
  name                  = "bells"
  scope                 = azurerm_eventgrid_topic.this.id
  event_delivery_schema = "CloudEventSchemaV1_0"
  webhook_endpoint {
    url                               = "https://${local.address}/events"
    max_events_per_batch              = 64
    preferred_batch_size_in_kilobytes = 64
  }
  delivery_property {
    header_name = "Authorization"
    type        = "Static"
    value       = "Bearer ${var.webhook_token}"
    secret      = true
  }
  # A bell is only a hint, and the timer finds what a lost one was for. So it is not tried for long.
  retry_policy {
    max_delivery_attempts = 10
    event_time_to_live    = 10
  }
  dead_letter_identity {
    type = "SystemAssigned"
  }
  storage_blob_dead_letter_destination {
    storage_account_id          = azurerm_storage_account.this.id
    storage_blob_container_name = local.dead_letters
  }
  depends_on = [azapi_resource.app, azurerm_role_assignment.dead_letters]
}

# The app. The provider's own resource has no place for the identity that reads the vault.

resource "azurerm_service_plan" "this" {
  name                = "zeroplane-${local.suffix}"
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  os_type             = "Linux"
  sku_name            = "FC1"
}

resource "azapi_resource" "app" {
  type      = "Microsoft.Web/sites@2024-04-01"
  name      = local.app_name
  parent_id = azurerm_resource_group.this.id
  location  = azurerm_resource_group.this.location
  identity {
    type         = "UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.app.id]
  }
  body = {
    kind = "functionapp,linux"
    properties = {
      serverFarmId              = azurerm_service_plan.this.id
      httpsOnly                 = true
      keyVaultReferenceIdentity = azurerm_user_assigned_identity.app.id
      functionAppConfig = {
        deployment = {
          storage = {
            type  = "blobContainer"
            value = "${azurerm_storage_account.this.primary_blob_endpoint}${local.deployment_container}"
            authentication = {
              type                           = "UserAssignedIdentity"
              userAssignedIdentityResourceId = azurerm_user_assigned_identity.app.id
            }
          }
        }
        runtime = {
          name    = "custom"
          version = "1.0"
        }
        scaleAndConcurrency = {
          instanceMemoryMB     = var.instance_memory_mb
          maximumInstanceCount = var.maximum_instance_count
          triggers = {
            http = {
              perInstanceConcurrency = var.http_concurrency
            }
          }
        }
      }
      siteConfig = {
        minTlsVersion = "1.2"
        appSettings   = [for name, value in local.settings : { name = name, value = value }]
      }
    }
  }
  # Nothing of the app starts before it may read what it needs.
  depends_on = [azurerm_role_assignment.app, azapi_resource.seal_key]
}

locals {
  settings = {
    AzureWebJobsStorage__accountName          = azurerm_storage_account.this.name
    AzureWebJobsStorage__credential           = "managedidentity"
    AzureWebJobsStorage__clientId             = azurerm_user_assigned_identity.app.client_id
    ZEROPLANE_STORAGE__queueServiceUri        = azurerm_storage_account.this.primary_queue_endpoint
    ZEROPLANE_STORAGE__credential             = "managedidentity"
    ZEROPLANE_STORAGE__clientId               = azurerm_user_assigned_identity.app.client_id
    AZURE_CLIENT_ID                           = azurerm_user_assigned_identity.app.client_id
    AZURE_STORAGE_ACCOUNT                     = azurerm_storage_account.this.name
    ZEROPLANE_TABLE                           = local.table_name
    ZEROPLANE_BELLS_QUEUE                     = local.bells_queue_name
    ZEROPLANE_SEAL_KEY                        = "@Microsoft.KeyVault(SecretUri=${azurerm_key_vault.this.vault_uri}secrets/${local.seal_key_name})"
    ZEROPLANE_ADDRESS                         = local.address
    ZEROPLANE_AUTHENTICATION_CONFIG           = var.authentication_config
    ZEROPLANE_EVENTGRID_TOPIC                 = local.push ? azurerm_eventgrid_topic.this.endpoint : ""
    ZEROPLANE_EVENTGRID_STREAM                = var.stream_topic
    APPLICATIONINSIGHTS_CONNECTION_STRING     = azurerm_application_insights.this.connection_string
    APPLICATIONINSIGHTS_AUTHENTICATION_STRING = "ClientId=${azurerm_user_assigned_identity.app.client_id};Authorization=AAD"
  }
}

# Rights of the identity, each on the one thing that it is for.

locals {
  rights = merge(
    {
      table      = { scope = azapi_resource.table.id, role = "Storage Table Data Contributor" }
      bells      = { scope = azapi_resource.queue[local.bells_queue_name].id, role = "Storage Queue Data Contributor" }
      poison     = { scope = azapi_resource.queue[local.poison_queue_name].id, role = "Storage Queue Data Contributor" }
      deployment = { scope = azapi_resource.container[local.deployment_container].id, role = "Storage Blob Data Contributor" }
      seal_key   = { scope = azapi_resource.seal_key.id, role = "Key Vault Secrets User" }
      topic      = { scope = azurerm_eventgrid_topic.this.id, role = "EventGrid Data Sender" }
      insights   = { scope = azurerm_application_insights.this.id, role = "Monitoring Metrics Publisher" }
    },
    { for name in local.host_containers : name => { scope = azapi_resource.container[name].id, role = "Storage Blob Data Owner" } },
  )
}

resource "azurerm_role_assignment" "app" {
  for_each             = local.rights
  scope                = each.value.scope
  role_definition_name = each.value.role
  principal_id         = azurerm_user_assigned_identity.app.principal_id
  principal_type       = "ServicePrincipal"
}

# The right of the topic's own identity: to keep what it could not deliver.
resource "azurerm_role_assignment" "dead_letters" {
  scope                = azapi_resource.container[local.dead_letters].id
  role_definition_name = "Storage Blob Data Contributor"
  principal_id         = azurerm_eventgrid_topic.this.identity[0].principal_id
  principal_type       = "ServicePrincipal"
}

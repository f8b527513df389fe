output "resource_group" {
  description = "The group that everything is in."
  value       = azurerm_resource_group.this.name
}

output "app_name" {
  description = "The function app that takes the package."
  value       = azapi_resource.app.name
}

output "address" {
  description = "The host name that clients use."
  value       = local.address
}

output "storage_account_name" {
  description = "The account whose table holds the clusters."
  value       = azurerm_storage_account.this.name
}

output "vault_name" {
  description = "The vault that holds the seal key."
  value       = azurerm_key_vault.this.name
}

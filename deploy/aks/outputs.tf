output "registry" {
  description = "Where images go."
  value       = azurerm_container_registry.this.login_server
}

output "cluster" {
  description = "For `az aks get-credentials`."
  value       = { name = azurerm_kubernetes_cluster.this.name, resource_group = azurerm_resource_group.this.name }
}

output "azure_env" {
  description = "deploy/kuberay/azure.env: terraform output -raw azure_env > ../kuberay/azure.env"
  value       = <<-EOT
    CLIENT_ID=${azurerm_user_assigned_identity.vireo.client_id}
    TENANT_ID=${data.azurerm_client_config.current.tenant_id}
    KEY_VAULT=${azurerm_key_vault.this.name}
    STORAGE_ACCOUNT=${azurerm_storage_account.this.name}
    RESOURCE_GROUP=${azurerm_resource_group.this.name}
  EOT
}

output "event_hubs_bootstrap" {
  description = "bootstrap_servers of a log in the spec."
  value       = "${azurerm_eventhub_namespace.this.name}.servicebus.windows.net:9093"
}

output "connection_string" {
  description = "Of Application Insights, for the OpenTelemetry Collector."
  value       = azurerm_application_insights.this.connection_string
  sensitive   = true
}

# Who the pods are: an identity without keys. Azure trusts the cluster's tokens for one account of one namespace.
resource "azurerm_user_assigned_identity" "vireo" {
  name                = "${var.name}-workload"
  location            = azurerm_resource_group.this.location
  resource_group_name = azurerm_resource_group.this.name
}

resource "azurerm_federated_identity_credential" "vireo" {
  name                = "vireo"
  resource_group_name = azurerm_resource_group.this.name
  parent_id           = azurerm_user_assigned_identity.vireo.id
  audience            = ["api://AzureADTokenExchange"]
  issuer              = azurerm_kubernetes_cluster.this.oidc_issuer_url
  subject             = "system:serviceaccount:vireo:vireo"
}

resource "azurerm_role_assignment" "vireo" {
  for_each = {
    models  = { scope = azurerm_storage_account.this.id, role = "Storage Blob Data Contributor" }
    secrets = { scope = azurerm_key_vault.this.id, role = "Key Vault Secrets User" }
    events  = { scope = azurerm_eventhub_namespace.this.id, role = "Azure Event Hubs Data Owner" }
  }
  scope                = each.value.scope
  role_definition_name = each.value.role
  principal_id         = azurerm_user_assigned_identity.vireo.principal_id
}

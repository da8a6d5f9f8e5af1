resource "azurerm_storage_account" "this" {
  name                            = "${local.unique}data"
  location                        = azurerm_resource_group.this.location
  resource_group_name             = azurerm_resource_group.this.name
  account_kind                    = "StorageV2"
  account_tier                    = "Standard"
  account_replication_type        = "ZRS"
  is_hns_enabled                  = true
  min_tls_version                 = "TLS1_2"
  shared_access_key_enabled       = false
  allow_nested_items_to_be_public = false

  network_rules {
    default_action             = "Deny"
    bypass                     = ["AzureServices"]
    ip_rules                   = [for each in var.api_server_ranges : trimsuffix(each, "/32")]
    virtual_network_subnet_ids = [azurerm_subnet.nodes.id]
  }
}

resource "azurerm_role_assignment" "uploader" {
  scope                = azurerm_storage_account.this.id
  role_definition_name = "Storage Blob Data Owner"
  principal_id         = data.azurerm_client_config.current.object_id
}

# models: model repositories; state: snapshots of feature views and collections; history: tables of past events
resource "azurerm_storage_container" "this" {
  for_each           = toset(["models", "state", "history"])
  name               = each.key
  storage_account_id = azurerm_storage_account.this.id
}

resource "azurerm_eventhub_namespace" "this" {
  name                     = "${local.unique}-events"
  location                 = azurerm_resource_group.this.location
  resource_group_name      = azurerm_resource_group.this.name
  sku                      = "Standard" # the least that Kafka clients can call
  capacity                 = var.event_units
  auto_inflate_enabled     = true
  maximum_throughput_units = 20
  minimum_tls_version      = "1.2"

  network_rulesets {
    default_action                 = "Deny"
    trusted_service_access_enabled = true
    virtual_network_rule {
      subnet_id = azurerm_subnet.nodes.id
    }
  }
}

resource "azurerm_eventhub" "this" {
  for_each          = var.event_hubs
  name              = each.key
  namespace_id      = azurerm_eventhub_namespace.this.id
  partition_count   = var.event_partitions
  message_retention = 7
}

# The server's Kafka client signs in by connection string, so there is one, for it alone; it goes into the vault.
resource "azurerm_eventhub_namespace_authorization_rule" "vireo" {
  name                = "vireo"
  namespace_name      = azurerm_eventhub_namespace.this.name
  resource_group_name = azurerm_resource_group.this.name
  listen              = true
  send                = true
  manage              = false
}

resource "azurerm_key_vault" "this" {
  name                       = "${local.unique}-kv"
  location                   = azurerm_resource_group.this.location
  resource_group_name        = azurerm_resource_group.this.name
  tenant_id                  = data.azurerm_client_config.current.tenant_id
  sku_name                   = "standard"
  rbac_authorization_enabled = true
  purge_protection_enabled   = true
  soft_delete_retention_days = 30

  network_acls {
    default_action             = "Deny"
    bypass                     = "AzureServices"
    ip_rules                   = var.api_server_ranges
    virtual_network_subnet_ids = [azurerm_subnet.nodes.id]
  }
}

resource "azurerm_role_assignment" "secrets_officer" {
  scope                = azurerm_key_vault.this.id
  role_definition_name = "Key Vault Secrets Officer"
  principal_id         = data.azurerm_client_config.current.object_id
}

resource "azurerm_key_vault_secret" "event_hubs" {
  name         = "event-hubs-connection"
  value        = azurerm_eventhub_namespace_authorization_rule.vireo.primary_connection_string
  key_vault_id = azurerm_key_vault.this.id
  depends_on   = [azurerm_role_assignment.secrets_officer]
}

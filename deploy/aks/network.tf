resource "azurerm_virtual_network" "this" {
  name                = "${var.name}-network"
  location            = azurerm_resource_group.this.location
  resource_group_name = azurerm_resource_group.this.name
  address_space       = ["10.64.0.0/16"]
}

resource "azurerm_subnet" "nodes" {
  name                 = "nodes"
  resource_group_name  = azurerm_resource_group.this.name
  virtual_network_name = azurerm_virtual_network.this.name
  address_prefixes     = ["10.64.0.0/20"]
  service_endpoints    = ["Microsoft.EventHub", "Microsoft.KeyVault", "Microsoft.Storage"]
}

# Alerts and the budget. There are none without an address to tell.

resource "azurerm_monitor_action_group" "operators" {
  count               = local.alerts
  name                = "zeroplane-${local.suffix}"
  resource_group_name = azurerm_resource_group.this.name
  short_name          = "zeroplane"
  email_receiver {
    name                    = "operators"
    email_address           = var.alert_email
    use_common_alert_schema = true
  }
}

locals {
  queries = {
    poison = {
      description = "A bell failed five times and was put into the poison queue: some function cannot do its work."
      query       = "StorageQueueLogs | where OperationName == \"PutMessage\" and Uri has \"${local.poison_queue_name}\" | summarize found = count()"
      threshold   = 0
    }
    http-5xx = {
      description = "More than ten requests in 15 minutes were answered with 5xx."
      query       = "AppRequests | where toint(ResultCode) >= 500 | summarize found = sum(ItemCount)"
      threshold   = 10
    }
  }
}

resource "azurerm_monitor_scheduled_query_rules_alert_v2" "found" {
  for_each              = { for name, query in local.queries : name => query if local.alerts == 1 }
  name                  = "zeroplane-${each.key}"
  resource_group_name   = azurerm_resource_group.this.name
  location              = azurerm_resource_group.this.location
  description           = each.value.description
  severity              = 2
  scopes                = [azurerm_log_analytics_workspace.this.id]
  evaluation_frequency  = "PT15M"
  window_duration       = "PT15M"
  skip_query_validation = true
  criteria {
    query                   = each.value.query
    metric_measure_column   = "found"
    time_aggregation_method = "Total"
    operator                = "GreaterThan"
    threshold               = each.value.threshold
  }
  action {
    action_groups = [azurerm_monitor_action_group.operators[0].id]
  }
}

resource "azurerm_monitor_metric_alert" "throttled" {
  count               = local.alerts
  name                = "zeroplane-table-throttled"
  resource_group_name = azurerm_resource_group.this.name
  description         = "The table service refused more than a hundred requests in 15 minutes: a log is at its ceiling."
  severity            = 3
  scopes              = ["${azurerm_storage_account.this.id}/tableServices/default"]
  frequency           = "PT15M"
  window_size         = "PT15M"
  criteria {
    metric_namespace = "Microsoft.Storage/storageAccounts/tableServices"
    metric_name      = "Transactions"
    aggregation      = "Total"
    operator         = "GreaterThan"
    threshold        = 100
    dimension {
      name     = "ResponseType"
      operator = "Include"
      values   = ["ServerBusyError", "ClientThrottlingError", "ClientAccountRequestThrottlingError", "ClientAccountBandwidthThrottlingError"]
    }
  }
  action {
    action_group_id = azurerm_monitor_action_group.operators[0].id
  }
}

resource "azurerm_consumption_budget_resource_group" "this" {
  count             = local.alerts
  name              = "zeroplane"
  resource_group_id = azurerm_resource_group.this.id
  amount            = var.budget_amount
  time_grain        = "Monthly"
  time_period {
    start_date = var.budget_start
  }
  notification {
    operator       = "GreaterThan"
    threshold      = 50
    threshold_type = "Actual"
    contact_emails = [var.alert_email]
  }
  notification {
    operator       = "GreaterThan"
    threshold      = 100
    threshold_type = "Forecasted"
    contact_emails = [var.alert_email]
  }
}

// A zeroplane on Azure: one function app on Flex Consumption, one storage account, and what they need.
// infra/azure/deploy.sh deploys it; docs/deploy-azure.md says what it is and what it costs.

@description('Where everything is. Flex Consumption is not in every region.')
param location string = resourceGroup().location

@description('The host name that clients use; empty for the app\'s own.')
param address string = ''

@description('The key that seals clusters\' keys, 32 random bytes in base64. Given once: empty leaves the vault\'s secret as it is.')
@secure()
param sealKey string = ''

@description('Whether bells are published to the Event Grid topic too. Only with the subscription of subscription.bicep.')
param pushBells bool = false

@description('An AuthenticationConfiguration, the whole document: whose tokens the API accepts (docs/entra.md). Empty for the clusters\' own alone.')
param authenticationConfig string = ''

@description('The endpoint of a topic of an Event Grid namespace, https://NAMESPACE.REGION-1.eventgrid.azure.net/topics/TOPIC, that gets the stream of changes; empty: none does. The identity needs the right to send to it.')
param streamTopic string = ''

@description('Memory of an instance, in MB. Billing is by this figure.')
@allowed([
  512
  2048
  4096
])
param instanceMemoryMB int = 512

@description('Requests that one instance takes at a time, held watches among them. Too few, and open watches force further instances, each billed while a watch is open.')
@minValue(1)
@maxValue(1000)
param httpConcurrency int = 1000

@description('Instances at most, of all functions together. It bounds the bill.')
@minValue(1)
@maxValue(1000)
param maximumInstanceCount int = 40

@description('The mail address that alerts and the budget\'s notices go to; empty makes neither.')
param alertEmail string = ''

@description('The monthly budget, in the subscription\'s currency.')
@minValue(1)
param budgetAmount int = 50

@description('The first day of the month in which the budget begins. It cannot be moved once the budget is made.')
param budgetStart string = utcNow('yyyy-MM-01')

var suffix = uniqueString(resourceGroup().id)
var appName = 'zeroplane-${suffix}'
var vaultName = 'zeroplane-${suffix}'

// The names that the program, its triggers and this file agree on; tests/infra holds them together.
var tableName = 'zeroplane'
var bellsQueueName = 'zeroplane-bells'
var poisonQueueName = 'zeroplane-bells-poison'
var sealKeyName = 'zeroplane-seal-key'
var deploymentContainerName = 'deployment'
var deadLetterContainerName = 'dead-letters'

// Built-in roles, by their fixed ids.
var roles = {
  blobDataContributor: 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'
  blobDataOwner: 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'
  eventGridDataSender: 'd5a91429-5739-47e2-a06b-3470a27159e7'
  keyVaultSecretsUser: '4633458b-17de-408a-b874-0445c86b69e6'
  metricsPublisher: '3913510d-42f4-4e42-8a64-420c390055eb'
  queueDataContributor: '974c5e8b-45b9-4653-ba55-5f855dd0fb88'
  tableDataContributor: '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3'
}

// Identity.

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: 'zeroplane-${suffix}'
  location: location
}

// Storage. There are no keys: everything is let in by the identity.

resource storage 'Microsoft.Storage/storageAccounts@2024-01-01' = {
  name: 'zp${suffix}'
  location: location
  kind: 'StorageV2'
  sku: {
    name: 'Standard_LRS'
  }
  properties: {
    allowBlobPublicAccess: false
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
  }
}

resource tables 'Microsoft.Storage/storageAccounts/tableServices@2024-01-01' = {
  parent: storage
  name: 'default'
}

resource table 'Microsoft.Storage/storageAccounts/tableServices/tables@2024-01-01' = {
  parent: tables
  name: tableName
}

resource queues 'Microsoft.Storage/storageAccounts/queueServices@2024-01-01' = {
  parent: storage
  name: 'default'
}

resource bellsQueue 'Microsoft.Storage/storageAccounts/queueServices/queues@2024-01-01' = {
  parent: queues
  name: bellsQueueName
}

resource poisonQueue 'Microsoft.Storage/storageAccounts/queueServices/queues@2024-01-01' = {
  parent: queues
  name: poisonQueueName
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2024-01-01' = {
  parent: storage
  name: 'default'
}

resource deploymentContainer 'Microsoft.Storage/storageAccounts/blobServices/containers@2024-01-01' = {
  parent: blobs
  name: deploymentContainerName
}

resource deadLetterContainer 'Microsoft.Storage/storageAccounts/blobServices/containers@2024-01-01' = {
  parent: blobs
  name: deadLetterContainerName
}

// The host's own containers, made here so that the identity needs no right to make any: its locks and the timer's
// schedule, and its keys.
resource hostsContainer 'Microsoft.Storage/storageAccounts/blobServices/containers@2024-01-01' = {
  parent: blobs
  name: 'azure-webjobs-hosts'
}

resource secretsContainer 'Microsoft.Storage/storageAccounts/blobServices/containers@2024-01-01' = {
  parent: blobs
  name: 'azure-webjobs-secrets'
}

// The seal key.

resource vault 'Microsoft.KeyVault/vaults@2023-07-01' = {
  name: vaultName
  location: location
  properties: {
    tenantId: subscription().tenantId
    sku: {
      family: 'A'
      name: 'standard'
    }
    enableRbacAuthorization: true
    enableSoftDelete: true
    softDeleteRetentionInDays: 90
  }
}

resource sealKeySecret 'Microsoft.KeyVault/vaults/secrets@2023-07-01' = if (!empty(sealKey)) {
  parent: vault
  name: sealKeyName
  properties: {
    value: sealKey
    contentType: '32 bytes in base64; without it no cluster in the table can be opened'
  }
}

// Logs.

resource workspace 'Microsoft.OperationalInsights/workspaces@2023-09-01' = {
  name: 'zeroplane-${suffix}'
  location: location
  properties: {
    sku: {
      name: 'PerGB2018'
    }
    retentionInDays: 30
    workspaceCapping: {
      dailyQuotaGb: 1
    }
  }
}

resource insights 'Microsoft.Insights/components@2020-02-02' = {
  name: 'zeroplane-${suffix}'
  location: location
  kind: 'web'
  properties: {
    Application_Type: 'web'
    WorkspaceResourceId: workspace.id
    DisableLocalAuth: true
  }
}

// Writes to queues alone: the platform's queue metric counts all queues of an account together, once an hour, so the
// alert on the poison queue reads these.
resource queueLogs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: queues
  name: 'zeroplane'
  properties: {
    workspaceId: workspace.id
    logs: [
      {
        category: 'StorageWrite'
        enabled: true
      }
    ]
  }
}

// Doorbells over HTTP. The subscription is in subscription.bicep: it can be made only when the app answers.

resource topic 'Microsoft.EventGrid/topics@2022-06-15' = {
  name: 'zeroplane-${suffix}'
  location: location
  identity: {
    type: 'SystemAssigned'
  }
  properties: {
    inputSchema: 'CloudEventSchemaV1_0'
    disableLocalAuth: true
  }
}

// The app.

resource plan 'Microsoft.Web/serverfarms@2024-04-01' = {
  name: 'zeroplane-${suffix}'
  location: location
  kind: 'functionapp'
  sku: {
    tier: 'FlexConsumption'
    name: 'FC1'
  }
  properties: {
    reserved: true
  }
}

resource app 'Microsoft.Web/sites@2024-04-01' = {
  name: appName
  location: location
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identity.id}': {}
    }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    keyVaultReferenceIdentity: identity.id
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: '${storage.properties.primaryEndpoints.blob}${deploymentContainerName}'
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identity.id
          }
        }
      }
      runtime: {
        name: 'custom'
        version: '1.0'
      }
      scaleAndConcurrency: {
        instanceMemoryMB: instanceMemoryMB
        maximumInstanceCount: maximumInstanceCount
        triggers: {
          http: {
            perInstanceConcurrency: httpConcurrency
          }
        }
      }
    }
    siteConfig: {
      minTlsVersion: '1.2'
      appSettings: [
        {
          name: 'AzureWebJobsStorage__accountName'
          value: storage.name
        }
        {
          name: 'AzureWebJobsStorage__credential'
          value: 'managedidentity'
        }
        {
          name: 'AzureWebJobsStorage__clientId'
          value: identity.properties.clientId
        }
        {
          name: 'ZEROPLANE_STORAGE__queueServiceUri'
          value: storage.properties.primaryEndpoints.queue
        }
        {
          name: 'ZEROPLANE_STORAGE__credential'
          value: 'managedidentity'
        }
        {
          name: 'ZEROPLANE_STORAGE__clientId'
          value: identity.properties.clientId
        }
        {
          name: 'AZURE_CLIENT_ID'
          value: identity.properties.clientId
        }
        {
          name: 'AZURE_STORAGE_ACCOUNT'
          value: storage.name
        }
        {
          name: 'ZEROPLANE_TABLE'
          value: tableName
        }
        {
          name: 'ZEROPLANE_BELLS_QUEUE'
          value: bellsQueueName
        }
        {
          name: 'ZEROPLANE_SEAL_KEY'
          value: '@Microsoft.KeyVault(SecretUri=${vault.properties.vaultUri}secrets/${sealKeyName})'
        }
        {
          name: 'ZEROPLANE_ADDRESS'
          value: empty(address) ? '${appName}.azurewebsites.net' : address
        }
        {
          name: 'ZEROPLANE_AUTHENTICATION_CONFIG'
          value: authenticationConfig
        }
        {
          name: 'ZEROPLANE_EVENTGRID_TOPIC'
          value: pushBells ? topic.properties.endpoint : ''
        }
        {
          name: 'ZEROPLANE_EVENTGRID_STREAM'
          value: streamTopic
        }
        {
          name: 'APPLICATIONINSIGHTS_CONNECTION_STRING'
          value: insights.properties.ConnectionString
        }
        {
          name: 'APPLICATIONINSIGHTS_AUTHENTICATION_STRING'
          value: 'ClientId=${identity.properties.clientId};Authorization=AAD'
        }
      ]
    }
  }
  // Nothing of the app starts before it may read what it needs.
  dependsOn: [
    bellsRights
    deploymentRights
    hostsRights
    poisonRights
    sealKeyRights
    sealKeySecret
    secretsRights
    tableRights
  ]
}

// Rights of the identity, each on the one thing that it is for.

resource tableRights 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: table
  name: guid(table.id, identity.id, roles.tableDataContributor)
  properties: {
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.tableDataContributor)
  }
}

resource bellsRights 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: bellsQueue
  name: guid(bellsQueue.id, identity.id, roles.queueDataContributor)
  properties: {
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.queueDataContributor)
  }
}

resource poisonRights 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: poisonQueue
  name: guid(poisonQueue.id, identity.id, roles.queueDataContributor)
  properties: {
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.queueDataContributor)
  }
}

resource deploymentRights 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: deploymentContainer
  name: guid(deploymentContainer.id, identity.id, roles.blobDataContributor)
  properties: {
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.blobDataContributor)
  }
}

resource hostsRights 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: hostsContainer
  name: guid(hostsContainer.id, identity.id, roles.blobDataOwner)
  properties: {
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.blobDataOwner)
  }
}

resource secretsRights 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: secretsContainer
  name: guid(secretsContainer.id, identity.id, roles.blobDataOwner)
  properties: {
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.blobDataOwner)
  }
}

// The vault holds one secret. A right on the secret itself could not be given before the secret is made, which is only
// at the first deployment.
resource sealKeyRights 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: vault
  name: guid(vault.id, identity.id, roles.keyVaultSecretsUser)
  properties: {
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.keyVaultSecretsUser)
  }
}

resource topicRights 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: topic
  name: guid(topic.id, identity.id, roles.eventGridDataSender)
  properties: {
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.eventGridDataSender)
  }
}

resource insightsRights 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: insights
  name: guid(insights.id, identity.id, roles.metricsPublisher)
  properties: {
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.metricsPublisher)
  }
}

// The right of the topic's own identity: to keep what it could not deliver.
resource deadLetterRights 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: deadLetterContainer
  name: guid(deadLetterContainer.id, topic.id, roles.blobDataContributor)
  properties: {
    principalId: topic.identity.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.blobDataContributor)
  }
}

// Alerts and the budget.

resource operators 'Microsoft.Insights/actionGroups@2023-01-01' = if (!empty(alertEmail)) {
  name: 'zeroplane-${suffix}'
  location: 'global'
  properties: {
    groupShortName: 'zeroplane'
    enabled: true
    emailReceivers: [
      {
        name: 'operators'
        emailAddress: alertEmail
        useCommonAlertSchema: true
      }
    ]
  }
}

resource poisonAlert 'Microsoft.Insights/scheduledQueryRules@2022-06-15' = if (!empty(alertEmail)) {
  name: 'zeroplane-poison'
  location: location
  properties: {
    description: 'A bell failed five times and was put into the poison queue: some function cannot do its work.'
    severity: 2
    enabled: true
    scopes: [
      workspace.id
    ]
    evaluationFrequency: 'PT15M'
    windowSize: 'PT15M'
    skipQueryValidation: true
    criteria: {
      allOf: [
        {
          query: 'StorageQueueLogs | where OperationName == "PutMessage" and Uri has "${poisonQueueName}"'
          timeAggregation: 'Count'
          operator: 'GreaterThan'
          threshold: 0
        }
      ]
    }
    actions: {
      actionGroups: [
        operators.id
      ]
    }
  }
}

resource errorsAlert 'Microsoft.Insights/scheduledQueryRules@2022-06-15' = if (!empty(alertEmail)) {
  name: 'zeroplane-http-5xx'
  location: location
  properties: {
    description: 'More than ten requests in 15 minutes were answered with 5xx.'
    severity: 2
    enabled: true
    scopes: [
      workspace.id
    ]
    evaluationFrequency: 'PT15M'
    windowSize: 'PT15M'
    skipQueryValidation: true
    criteria: {
      allOf: [
        {
          query: 'AppRequests | where toint(ResultCode) >= 500 | summarize requests = sum(ItemCount)'
          metricMeasureColumn: 'requests'
          timeAggregation: 'Total'
          operator: 'GreaterThan'
          threshold: 10
        }
      ]
    }
    actions: {
      actionGroups: [
        operators.id
      ]
    }
  }
}

resource throttleAlert 'Microsoft.Insights/metricAlerts@2018-03-01' = if (!empty(alertEmail)) {
  name: 'zeroplane-table-throttled'
  location: 'global'
  properties: {
    description: 'The table service refused more than a hundred requests in 15 minutes: a log is at its ceiling.'
    severity: 3
    enabled: true
    scopes: [
      tables.id
    ]
    evaluationFrequency: 'PT15M'
    windowSize: 'PT15M'
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
      allOf: [
        {
          criterionType: 'StaticThresholdCriterion'
          name: 'throttled'
          metricNamespace: 'Microsoft.Storage/storageAccounts/tableServices'
          metricName: 'Transactions'
          timeAggregation: 'Total'
          operator: 'GreaterThan'
          threshold: 100
          dimensions: [
            {
              name: 'ResponseType'
              operator: 'Include'
              values: [
                'ServerBusyError'
                'ClientThrottlingError'
                'ClientAccountRequestThrottlingError'
                'ClientAccountBandwidthThrottlingError'
              ]
            }
          ]
        }
      ]
    }
    actions: [
      {
        actionGroupId: operators.id
      }
    ]
  }
}

resource budget 'Microsoft.Consumption/budgets@2023-05-01' = if (!empty(alertEmail)) {
  name: 'zeroplane'
  properties: {
    category: 'Cost'
    amount: budgetAmount
    timeGrain: 'Monthly'
    timePeriod: {
      startDate: budgetStart
    }
    notifications: {
      half: {
        enabled: true
        operator: 'GreaterThan'
        threshold: 50
        thresholdType: 'Actual'
        contactEmails: [
          alertEmail
        ]
      }
      all: {
        enabled: true
        operator: 'GreaterThan'
        threshold: 100
        thresholdType: 'Forecasted'
        contactEmails: [
          alertEmail
        ]
      }
    }
  }
}

output appName string = app.name
output address string = empty(address) ? app.properties.defaultHostName : address
output storageAccountName string = storage.name
output topicName string = topic.name
output vaultName string = vault.name

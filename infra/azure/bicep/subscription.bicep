// The subscription that brings doorbells to the webhook's route, and so to the instances whose caches are warm. Event
// Grid asks the endpoint for its consent when the subscription is made, so the app must have its package by then.

@description('The topic and the storage account, as main.bicep\'s outputs name them.')
param topicName string
param storageAccountName string

@description('The host name of the app, as main.bicep\'s outputs say it.')
param address string

@description('A bearer token of the default cluster that may post events; docs/deploy-azure.md says how to make one.')
@secure()
param webhookToken string

resource topic 'Microsoft.EventGrid/topics@2022-06-15' existing = {
  name: topicName
}

resource storage 'Microsoft.Storage/storageAccounts@2024-01-01' existing = {
  name: storageAccountName
}

resource bells 'Microsoft.EventGrid/topics/eventSubscriptions@2022-06-15' = {
  parent: topic
  name: 'bells'
  properties: {
    eventDeliverySchema: 'CloudEventSchemaV1_0'
    destination: {
      endpointType: 'WebHook'
      properties: {
        endpointUrl: 'https://${address}/events'
        maxEventsPerBatch: 64
        preferredBatchSizeInKilobytes: 64
        deliveryAttributeMappings: [
          {
            name: 'Authorization'
            type: 'Static'
            properties: {
              value: 'Bearer ${webhookToken}'
              isSecret: true
            }
          }
        ]
      }
    }
    // A bell is only a hint, and the timer finds what a lost one was for. So it is not tried for long.
    retryPolicy: {
      maxDeliveryAttempts: 10
      eventTimeToLiveInMinutes: 10
    }
    deadLetterWithResourceIdentity: {
      identity: {
        type: 'SystemAssigned'
      }
      deadLetterDestination: {
        endpointType: 'StorageBlob'
        properties: {
          resourceId: storage.id
          blobContainerName: 'dead-letters'
        }
      }
    }
  }
}

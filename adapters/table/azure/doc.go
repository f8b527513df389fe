// Package azure is the table store in Azure Table Storage, and in Azurite, its emulator. What each promise of
// the port rests on, and what it costs: docs/azure-tables.md.
//
// A row is an entity: the partition and the row key are the port's, the value is cut into binary properties
// named a, b, c, ... of 64 KiB each, and the ETag is the service's. A transaction is an entity group transaction,
// or, when it has one operation, that operation alone.
//
// # Retries
//
// The SDK would send any request again whose reply does not come, transactions too, and so report a conflict
// with one's own success. Its retries are off. A read is sent again after any failure that may pass. A
// transaction is sent again only after an answer, or a failure to connect, which proves that nothing of it was
// applied: 429, 503 with the code ServerBusy, a connection that was never made. After any other failure (a
// connection that broke, a timeout, a 500) it may have been applied, and Commit returns an error that
// wraps ErrOutcomeUnknown. Whoever can tell its own rows by what is in them reads one: tablelog does, by the
// write-id of its log rows. A conflict is always a stranger's.
//
// Waiting is jittered, longer with each attempt, at least what the service asks for, and never beyond the
// caller's deadline: where the wait would not end before it, the error comes at once.
package azure

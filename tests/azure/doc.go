// Package azure drives bin/zeroplane over a table in Azurite, behind a proxy that is as strict, as slow and as
// unreliable as the service (tests/azurite/limits).
package azure

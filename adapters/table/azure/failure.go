package azure

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/zeroplane/zeroplane/adapters/table"
)

var (
	// ErrOutcomeUnknown is wrapped by Commit's error for a transaction that may have been applied, or may yet be.
	ErrOutcomeUnknown = errors.New("the outcome of the transaction is unknown")
	// errNoTable is wrapped by errors about a table that is not there.
	errNoTable = errors.New("the table does not exist")
	// errTooLarge is returned before a request that the service would not read to its end.
	errTooLarge = fmt.Errorf("%w: a transaction of more than 4 MiB on the wire", table.ErrInvalid)
)

// Error is the service's answer to a request that failed.
type Error struct {
	// Status is the HTTP status, that of the operation which failed where a transaction did.
	Status int
	// Code and Message are the service's.
	Code, Message string
	// RequestID is what the service's support asks for.
	RequestID string

	// index is the operation of a transaction which failed, -1 if the service did not say.
	index int
	// after is how long the service asks to wait.
	after time.Duration
}

// RetryAfter is how long the service asks to wait, 0 if it does not say.
func (e *Error) RetryAfter() time.Duration { return e.after }

func (e *Error) Error() string {
	text := fmt.Sprintf("the table service answered %d", e.Status)
	if e.Code != "" {
		text += " " + e.Code
	}
	if e.Message != "" {
		text += ": " + e.Message
	}
	if e.RequestID != "" {
		text += " (request " + e.RequestID + ")"
	}
	return text + e.hint()
}

func (e *Error) Unwrap() error {
	if e.Code == "TableNotFound" {
		return errNoTable
	}
	return nil
}

// hint says what to do about an answer that is about the caller.
func (e *Error) hint() string {
	switch e.Code {
	case "AuthorizationPermissionMismatch", "InsufficientAccountPermissions", "AuthorizationServiceMismatch", "AuthorizationResourceTypeMismatch":
		return "; give the identity the role \"Storage Table Data Contributor\" on the storage account, or the shared access signature " +
			"the permissions raud, and to make the table c, with the resource types co of the table service"
	case "KeyBasedAuthenticationNotPermitted":
		return "; the storage account takes no keys: leave AZURE_STORAGE_KEY and AZURE_STORAGE_CONNECTION_STRING unset and use an identity"
	}
	if e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden {
		return "; set AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN, to those of " +
			"this account, or use an identity (AZURE_CLIENT_ID, AZURE_TENANT_ID, ...); see also that the clock is right and that the account's " +
			"firewall lets this client in"
	}
	return ""
}

// conflict returns which of the port's conflicts an answer is, nil for none.
func (e *Error) conflict() error {
	switch e.Code {
	case "EntityAlreadyExists":
		return table.ErrExists
	case "UpdateConditionNotSatisfied", "ConditionNotMet":
		return table.ErrChanged
	case "ResourceNotFound", "EntityNotFound", "EntityDoesNotExist":
		return table.ErrNotFound
	}
	if e.Status == http.StatusPreconditionFailed {
		return table.ErrChanged
	}
	return nil
}

// refused reports whether no table would take the request.
func (e *Error) refused() bool {
	switch e.Code {
	case "InvalidInput", "OutOfRangeInput", "EntityTooLarge", "PropertyValueTooLarge", "KeyValueTooLarge", "TooManyProperties",
		"PropertyNameTooLong", "InvalidDuplicateRow", "CommandsInBatchActOnDifferentPartitions", "RequestBodyTooLarge", "ContentLengthExceeded":
		return true
	}
	return e.Status == http.StatusRequestEntityTooLarge
}

// failure returns the SDK's error without what it adds: pages of text, and the URL, which may be a secret.
func failure(err error) error {
	if err == nil {
		return nil
	}
	if r, ok := errors.AsType[*azcore.ResponseError](err); ok {
		return answerError(r)
	}
	if i, ok := errors.AsType[*identityError](err); ok {
		return i
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// identity is a credential whose errors tell that nothing was sent.
type identity struct{ azcore.TokenCredential }

// GetToken implements azcore.TokenCredential.
func (i identity) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	token, err := i.TokenCredential.GetToken(ctx, o)
	if err != nil {
		return token, &identityError{err}
	}
	return token, nil
}

// identityError is that no identity could be had.
type identityError struct{ err error }

func (e *identityError) Error() string {
	return "no identity for the storage account: set AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT with AZURE_STORAGE_KEY " +
		"or AZURE_STORAGE_SAS_TOKEN, or AZURE_TENANT_ID and AZURE_CLIENT_ID with a secret, or run where there is a managed identity: " + e.err.Error()
}

func (e *identityError) Unwrap() error { return e.err }

// isNonRetriable reports whether the SDK says that another attempt is of no use.
func isNonRetriable(err error) bool {
	type marked interface {
		error
		NonRetriable()
	}
	_, ok := errors.AsType[marked](err)
	return ok
}

// answerError reads an answer. That of a transaction which failed has the status 202, and the failure inside.
func answerError(r *azcore.ResponseError) *Error {
	e := &Error{Status: r.StatusCode, Code: r.ErrorCode, index: -1}
	resp := r.RawResponse
	if resp == nil {
		return e
	}
	e.RequestID = resp.Header.Get("x-ms-request-id")
	e.after = retryAfter(resp.Header)
	body, err := runtime.Payload(resp)
	if err != nil {
		return e
	}
	if r.StatusCode < http.StatusBadRequest {
		e.Code = ""
		if status, inner, ok := failedOperation(body); ok {
			e.Status, body = status, inner
		}
	}
	var said struct {
		Error struct {
			Code    string
			Message struct{ Value string }
		} `json:"odata.error"`
	}
	if json.Unmarshal(body, &said) != nil {
		return e
	}
	if e.Code == "" {
		e.Code = said.Error.Code
	}
	// "INDEX:TEXT\nRequestId:...\nTime:...", without an index where there is one operation.
	e.Message, _, _ = strings.Cut(said.Error.Message.Value, "\n")
	if before, after, ok := strings.Cut(e.Message, ":"); ok {
		if n, err := strconv.Atoi(before); err == nil {
			e.index, e.Message = n, after
		}
	}
	return e
}

// failedOperation finds the answer about the operation that failed in that to a transaction, which is multipart
// in multipart with an HTTP answer in each part.
func failedOperation(body []byte) (status int, inner []byte, ok bool) {
	for {
		start := bytes.Index(body, []byte("HTTP/1.1 "))
		if start < 0 {
			return 0, nil, false
		}
		body = body[start:]
		resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(body)), nil)
		if err != nil {
			return 0, nil, false
		}
		if resp.StatusCode < http.StatusBadRequest {
			_ = resp.Body.Close()
			body = body[len("HTTP/1.1 "):]
			continue
		}
		inner, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			return resp.StatusCode, nil, true
		}
		// The parts' boundary follows.
		if end := bytes.LastIndexByte(inner, '}'); end >= 0 {
			inner = inner[:end+1]
		}
		return resp.StatusCode, inner, true
	}
}

// retryAfter reads how long an answer asks to wait.
func retryAfter(h http.Header) time.Duration {
	for _, name := range []string{"retry-after-ms", "x-ms-retry-after-ms"} {
		if n, err := strconv.Atoi(h.Get(name)); err == nil && n > 0 {
			return time.Duration(n) * time.Millisecond
		}
	}
	v := h.Get("Retry-After")
	if n, err := strconv.Atoi(v); err == nil && n > 0 {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}

// mayPass reports whether a request that only reads, or may be repeated, is worth another attempt.
func mayPass(err error) bool {
	if e, ok := errors.AsType[*Error](err); ok {
		switch e.Status {
		case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
			http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return true
		}
		return e.Code == "TableBeingDeleted"
	}
	if _, ok := errors.AsType[*identityError](err); ok {
		return false
	}
	if isNonRetriable(err) {
		return false
	}
	return !errors.Is(err, table.ErrCorrupt) && !errors.Is(err, table.ErrNotFound) && !errors.Is(err, table.ErrInvalid) && !isPermanent(err)
}

// neverApplied reports whether a transaction failed in a way that may pass and shows that nothing of it
// was applied.
func neverApplied(err error) bool {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Status == http.StatusTooManyRequests || e.Status == http.StatusServiceUnavailable && e.Code == "ServerBusy"
	}
	return notConnected(err) && !isPermanent(err)
}

// mayBeApplied reports whether a transaction that failed, and is not tried again, may have been applied.
func mayBeApplied(err error) bool {
	if _, ok := errors.AsType[*table.ConflictError](err); ok || errors.Is(err, table.ErrInvalid) {
		return false
	}
	if _, ok := errors.AsType[*identityError](err); ok {
		return false
	}
	if errors.Is(err, errNotSent) {
		return false
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Status >= http.StatusInternalServerError && !neverApplied(err) || e.Status == http.StatusRequestTimeout || e.Status < http.StatusBadRequest
	}
	return !notConnected(err)
}

// notConnected reports whether there was no connection to send a request over.
func notConnected(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	if ok && (op.Op == "dial" || op.Op == "proxyconnect") {
		return true
	}
	_, ok = errors.AsType[*net.DNSError](err)
	return ok
}

// isPermanent reports whether a connection fails for a reason that stays: a name that does not exist, or a
// certificate that is not trusted.
func isPermanent(err error) bool {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return dns.IsNotFound
	}
	return untrusted(err)
}

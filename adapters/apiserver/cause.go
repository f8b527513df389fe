package apiserver

import (
	"net/http"
	"strings"

	"go.opentelemetry.io/otel/propagation"

	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/adapters/tracing"
)

// withCause notes for what a request changes who makes it, by the first word of its user agent as managers of fields are
// named upstream (k8s.io/apiserver/pkg/endpoints/handlers/create.go managerOrUserAgent), and in which trace. Requests from
// inside the process bring theirs.
func withCause(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		ctx := req.Context()
		if ctx.Value(identityKey{}) != nil || req.Method == http.MethodGet || req.Method == http.MethodHead {
			next.ServeHTTP(w, req)
			return
		}
		by, _, _ := strings.Cut(req.UserAgent(), "/")
		cause := tracing.Received(ctx, propagation.HeaderCarrier(req.Header), by)
		next.ServeHTTP(w, req.WithContext(tablelog.WithCause(ctx, func(string) *tablelog.Cause { return cause })))
	})
}

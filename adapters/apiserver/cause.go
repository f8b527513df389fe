package apiserver

import (
	"net/http"
	"strings"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	"k8s.io/apiserver/pkg/endpoints/filters"

	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/adapters/tracing"
)

// withCause notes for what a request changes who makes it, by the first word of its user agent as managers of fields are
// named upstream (k8s.io/apiserver/pkg/endpoints/handlers/create.go managerOrUserAgent), and in which trace. Requests from
// inside the process bring theirs.
func withCause(next http.Handler) http.Handler {
	outside := http.Handler(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodGet || req.Method == http.MethodHead {
			next.ServeHTTP(w, req)
			return
		}
		by, _, _ := strings.Cut(req.UserAgent(), "/")
		cause := tracing.Received(req.Context(), propagation.HeaderCarrier(req.Header), by)
		next.ServeHTTP(w, req.WithContext(tablelog.WithCause(req.Context(), func(string) *tablelog.Cause { return cause })))
	}))
	if tracing.Exporting() {
		outside = filters.WithTracing(outside, otel.GetTracerProvider())
	}
	return insideOr(next, outside)
}

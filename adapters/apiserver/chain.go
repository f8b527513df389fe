package apiserver

import (
	"context"
	"net/http"

	"k8s.io/apiserver/pkg/endpoints/filters"
	"k8s.io/apiserver/pkg/endpoints/filters/impersonation"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	genericfeatures "k8s.io/apiserver/pkg/features"
	genericapiserver "k8s.io/apiserver/pkg/server"
	serverfilters "k8s.io/apiserver/pkg/server/filters"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

// buildChain returns the filters that every request passes, outermost last. It is upstream's
// DefaultBuildHandlerChain (k8s.io/apiserver/pkg/server/config.go) with the in-flight limit in
// place of priority and fairness, which works between requests, and with revalidation of what
// admission and authorisation read, which informers do upstream.
func (s *Server) buildChain(handler http.Handler, c *genericapiserver.Config) http.Handler {
	handler = s.withCustomGroups(handler)
	handler = withCause(handler)
	handler = filters.WithAuthorization(handler, c.Authorization.Authorizer, c.Serializer)
	handler = serverfilters.WithMaxInFlightLimit(handler, c.MaxRequestsInFlight, c.MaxMutatingRequestsInFlight, c.LongRunningFunc)
	if c.FeatureGate.Enabled(genericfeatures.ConstrainedImpersonation) {
		handler = impersonation.WithConstrainedImpersonation(handler, c.Authorization.Authorizer, c.Serializer)
	} else {
		handler = impersonation.WithImpersonation(handler, c.Authorization.Authorizer, c.Serializer)
	}
	unauthorized := filters.Unauthorized(c.Serializer)
	handler = filters.WithAuthentication(handler, c.Authentication.Authenticator, unauthorized, c.Authentication.APIAudiences, nil)
	handler = s.withRevalidation(handler)
	handler = filters.WithWarningRecorder(handler)
	outside := serverfilters.WithTimeoutForNonLongRunningRequests(handler, c.LongRunningFunc)
	outside = filters.WithRequestDeadline(outside, c.AuditBackend, c.AuditPolicyRuleEvaluator, c.LongRunningFunc, c.Serializer, c.RequestTimeout)
	handler = insideOr(handler, outside)
	handler = serverfilters.WithWaitGroup(handler, c.LongRunningFunc, c.NonLongRunningRequestWaitGroup)
	handler = filters.WithCacheControl(handler)
	handler = filters.WithLatencyTrackers(handler)
	handler = filters.WithRequestInfo(handler, c.RequestInfoResolver)
	handler = filters.WithRequestReceivedTimestamp(handler)
	handler = serverfilters.WithPanicRecovery(handler, c.RequestInfoResolver)
	return filters.WithAuditInit(handler)
}

// insideOr sends requests from inside the process, which carry their own deadlines, past the
// filters that give a request one.
func insideOr(inside, outside http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Context().Value(identityKey{}) != nil {
			inside.ServeHTTP(w, req)
			return
		}
		outside.ServeHTTP(w, req)
	})
}

// requestOrigin is what the store is told that requests' calls are made for.
const requestOrigin = "request"

// withRevalidation makes current what a request's authentication, authorisation and admission will
// read, with one look at the tail of one log.
func (s *Server) withRevalidation(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		// The writes of one plan are one request: they come from inside, where it was marked.
		if ctx := req.Context(); ctx.Value(identityKey{}) == nil || !tablelog.Begun(ctx) {
			req = req.WithContext(table.WithOrigin(tablelog.Begin(ctx), requestOrigin))
		}
		if err := s.revalidate(req.Context()); err != nil {
			responsewriters.InternalError(w, req, err)
			return
		}
		next.ServeHTTP(w, req)
	})
}

func (s *Server) revalidate(ctx context.Context) error {
	if _, err := s.logs[kubestorage.ConfigGroup].Current(ctx); err != nil {
		return err
	}
	if err := s.custom.sync(ctx); err != nil {
		return err
	}
	return s.informers.sync(ctx)
}

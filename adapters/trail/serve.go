package trail

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
)

// Path is where trails are served, below the path of a cluster's events.
const Path = "/trace"

// The parameters of a request, of which group, namespace and trace may be missing.
const (
	groupParam, resourceParam, namespaceParam, nameParam = "group", "resource", "namespace", "name"

	traceParam = "trace"
)

// Handler serves GET with the object in its parameters: its Trail, or a metav1.Status.
func (r Reader) Handler(codecs runtime.NegotiatedSerializer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		t, err := r.answer(req)
		if err != nil {
			responsewriters.ErrorNegotiated(err, codecs, schema.GroupVersion{}, w, req)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(t) // whoever hung up does not read it
	})
}

func (r Reader) answer(req *http.Request) (Trail, error) {
	p := req.URL.Query()
	q := Query{
		Resource:  schema.GroupResource{Group: p.Get(groupParam), Resource: p.Get(resourceParam)},
		Namespace: p.Get(namespaceParam), Name: p.Get(nameParam), Trace: p.Get(traceParam),
	}
	if req.Method != http.MethodGet {
		return Trail{}, apierrors.NewMethodNotSupported(q.Resource, req.Method)
	}
	for _, needed := range []string{resourceParam, nameParam} {
		if p.Get(needed) == "" {
			return Trail{}, apierrors.NewBadRequest("the parameter " + needed + " is missing")
		}
	}
	t, err := r.Follow(req.Context(), q)
	if errors.Is(err, ErrNotFound) {
		status := apierrors.NewNotFound(q.Resource, q.Name)
		status.ErrStatus.Message = err.Error()
		return t, status
	}
	return t, err
}

// Address returns the path and the parameters of a query, below the path of a cluster's events.
func (q Query) Address() string {
	p := url.Values{}
	for k, v := range map[string]string{
		groupParam: q.Resource.Group, resourceParam: q.Resource.Resource, namespaceParam: q.Namespace, nameParam: q.Name, traceParam: q.Trace,
	} {
		if v != "" {
			p.Set(k, v)
		}
	}
	return Path + "?" + p.Encode()
}

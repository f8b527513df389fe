package localhost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/zeroplane/zeroplane/adapters/cluster"
)

// managePath is where clusters are managed, behind the default cluster's authentication and
// authorisation: a non-resource URL to RBAC.
const managePath = "/zeroplane/v1/clusters"

// maxManageBody bounds a request to create a cluster, in bytes.
const maxManageBody = 4096

// ClusterStatus is what the management API says of a cluster.
type ClusterStatus struct {
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
	Path    string    `json:"path"`
	// Awake says whether the cluster is in memory.
	Awake bool `json:"awake"`
	// Kubeconfig is given by create and by kubeconfig only: it holds the admin's credential.
	Kubeconfig string `json:"kubeconfig,omitempty"`
}

var clusterResource = schema.GroupResource{Group: "zeroplane.dev", Resource: "clusters"}

// manage serves GET, POST /zeroplane/v1/clusters, and GET, DELETE /zeroplane/v1/clusters/NAME,
// and GET /zeroplane/v1/clusters/NAME/kubeconfig.
func (h *Host) manage(w http.ResponseWriter, req *http.Request) {
	rest := strings.Trim(strings.TrimPrefix(req.URL.Path, managePath), "/")
	name, sub, _ := strings.Cut(rest, "/")
	var answer any
	var err error
	code := http.StatusOK
	switch {
	case name == "" && req.Method == http.MethodGet:
		answer, err = h.listClusters(req)
	case name == "" && req.Method == http.MethodPost:
		answer, err = h.createCluster(req)
		code = http.StatusCreated
	case name == "":
		err = apierrors.NewMethodNotSupported(clusterResource, req.Method)
	case sub == "" && req.Method == http.MethodGet:
		answer, err = h.clusterStatus(req, name, false)
	case sub == "kubeconfig" && req.Method == http.MethodGet:
		answer, err = h.clusterStatus(req, name, true)
	case sub == "" && req.Method == http.MethodDelete:
		answer, err = h.deleteCluster(req, name)
	default:
		err = apierrors.NewMethodNotSupported(clusterResource, req.Method)
	}
	if err != nil {
		status := statusOf(err, name)
		answer, code = status, int(status.Code)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(answer)
}

func statusOf(err error, name string) *metav1.Status {
	var api apierrors.APIStatus
	switch {
	case errors.Is(err, cluster.ErrNotFound):
		api = apierrors.NewNotFound(clusterResource, name)
	case errors.Is(err, cluster.ErrExists):
		api = &apierrors.StatusError{ErrStatus: metav1.Status{
			Status: metav1.StatusFailure, Code: http.StatusConflict, Reason: metav1.StatusReasonAlreadyExists, Message: err.Error(),
		}}
	case errors.Is(err, cluster.ErrName):
		api = apierrors.NewBadRequest(err.Error())
	case !errors.As(err, &api):
		api = apierrors.NewInternalError(err)
	}
	s := api.Status()
	s.Kind, s.APIVersion = "Status", "v1"
	return &s
}

func (h *Host) status(i cluster.Info) ClusterStatus {
	return ClusterStatus{Name: i.Name, Created: i.Created, Path: cluster.PathPrefix(i.Name), Awake: h.clusters.isAwake(i.Name)}
}

func (h *Host) listClusters(req *http.Request) (any, error) {
	infos, err := h.maker.Registry.List(req.Context())
	if err != nil {
		return nil, err
	}
	out := make([]ClusterStatus, 0, len(infos))
	for _, i := range infos {
		out = append(out, h.status(i))
	}
	return map[string]any{"items": out}, nil
}

func (h *Host) createCluster(req *http.Request) (any, error) {
	body, err := io.ReadAll(io.LimitReader(req.Body, maxManageBody))
	if err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("reading the request: %v", err))
	}
	var in struct {
		Name string `json:"name"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("the request must be like {\"name\": \"NAME\"}: %v", err))
	}
	// What was begun is not left half done when the client goes.
	ctx := context.WithoutCancel(req.Context())
	info, keys, err := h.create(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	h.announce(ctx, in.Name)
	return h.withKubeconfig(info, keys)
}

func (h *Host) withKubeconfig(info cluster.Info, keys cluster.Keys) (ClusterStatus, error) {
	s := h.status(info)
	config, err := h.kubeconfig(info, keys)
	s.Kubeconfig = string(config)
	return s, err
}

func (h *Host) clusterStatus(req *http.Request, name string, withConfig bool) (any, error) {
	info, err := h.maker.Registry.Get(req.Context(), name)
	if err != nil || !withConfig {
		return h.status(info), err
	}
	keys, err := h.maker.Seal.Open(info)
	if err != nil {
		return nil, err
	}
	return h.withKubeconfig(info, keys)
}

func (h *Host) deleteCluster(req *http.Request, name string) (any, error) {
	if name == cluster.Default {
		return nil, apierrors.NewForbidden(clusterResource, name, errors.New("the default cluster manages the others and cannot be deleted"))
	}
	// It is done once begun, whether the client waits or not.
	ctx := context.WithoutCancel(req.Context())
	done, err := h.beforeHalf(ctx)
	if err != nil {
		return nil, err
	}
	info, err := h.maker.Unregister(ctx, name)
	if errors.Is(err, cluster.ErrNotFound) {
		done()
	}
	if err != nil {
		return nil, err
	}
	h.clusters.forget(name)
	if err := h.maker.RemoveRows(ctx, info); err != nil {
		return nil, err
	}
	done()
	return h.status(info), removeDirty(ctx, h.store, name)
}

// refuse answers a request for a cluster that cannot be had. One that does not exist answers every request as
// one that does exist answers a wrong credential.
func (h *Host) refuse(w http.ResponseWriter, name string, err error) {
	status := statusOf(err, name)
	if errors.Is(err, cluster.ErrNotFound) {
		s := apierrors.NewUnauthorized("Unauthorized").Status()
		status = &s
		status.Kind, status.APIVersion = "Status", "v1"
	}
	if errors.Is(err, errStopping) {
		s := apierrors.NewServiceUnavailable(err.Error()).Status()
		status = &s
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(int(status.Code))
	_ = json.NewEncoder(w).Encode(status)
}

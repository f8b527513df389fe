package linearizable_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/zeroplane/zeroplane/tests/linearizable/history"
	"github.com/zeroplane/zeroplane/tests/linearizable/workload"
)

const (
	tokenName  = "token"
	colourName = "colour"
)

// kind is a resource that clients work on.
type kind struct {
	// api is the path of its group and version.
	api, resource, apiVersion, kind, group string
}

// kinds in two log groups.
var kinds = []kind{
	{api: "/api/v1", resource: "configmaps", apiVersion: "v1", kind: "ConfigMap", group: "objects"},
	{api: "/apis/coordination.k8s.io/v1", resource: "leases", apiVersion: "coordination.k8s.io/v1", kind: "Lease", group: "leases"},
}

// client asks one process, and asks once: what it does not get an answer to is of unknown outcome.
type client struct {
	base string
	http *http.Client
}

var _ workload.Instance = (*client)(nil)

func newClient(kubeconfig string) (*client, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	c := &client{base: config.Host}
	c.http, err = rest.HTTPClientFor(config)
	return c, err
}

// meta and object are what these tests read and write of any object.
type meta struct {
	Name            string            `json:"name,omitempty"`
	Namespace       string            `json:"namespace,omitempty"`
	UID             string            `json:"uid,omitempty"`
	ResourceVersion string            `json:"resourceVersion,omitempty"`
	Continue        string            `json:"continue,omitempty"`
	Annotations     map[string]string `json:"annotations,omitempty"`
	Labels          map[string]string `json:"labels,omitempty"`
}

type object struct {
	APIVersion string   `json:"apiVersion,omitempty"`
	Kind       string   `json:"kind,omitempty"`
	Metadata   meta     `json:"metadata"`
	Items      []object `json:"items,omitempty"`
	// Code, Reason and Message are those of a Status.
	Code    int    `json:"code,omitempty"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}

func (m meta) seen() history.Seen {
	rev, err := strconv.ParseUint(m.ResourceVersion, 10, 64)
	if err != nil {
		return history.Seen{}
	}
	return history.Seen{Rev: rev, Token: m.Annotations[tokenName], UID: m.UID}
}

func (m *meta) mark(token string) {
	m.Annotations, m.Labels = map[string]string{tokenName: token}, map[string]string{colourName: history.ColourOf(token)}
}

// address takes a key apart.
func address(key string) (namespace, name string) {
	parts := strings.Split(key, "/")
	return parts[2], parts[3]
}

func (k kind) path(key string) string {
	namespace, name := address(key)
	return k.collection(namespace) + "/" + name
}

func (k kind) collection(namespace string) string {
	if namespace == "" {
		return k.api + "/" + k.resource
	}
	return k.api + "/namespaces/" + namespace + "/" + k.resource
}

// errNoAnswer is wrapped where no answer says what was done.
var errNoAnswer = errors.New("no answer")

// ask sends one request and reads the answer.
func (c *client) ask(ctx context.Context, method, path, contentType string, body any) (*object, error) {
	var data []byte
	if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoAnswer, err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoAnswer, err)
	}
	o := &object{}
	if err := json.Unmarshal(answer, o); err != nil {
		return nil, fmt.Errorf("%s: %q: %w", resp.Status, answer, err)
	}
	if resp.StatusCode >= http.StatusMultipleChoices {
		o.Code = resp.StatusCode
		return o, fmt.Errorf("%s: %s: %s", resp.Status, o.Reason, o.Message)
	}
	return o, nil
}

// Do implements workload.Instance.
func (c *client) Do(ctx context.Context, o *history.Operation) {
	if o.Verb == history.List || o.Verb == history.ListAt {
		answer, err := c.list(ctx, o)
		conclude(o, answer, err)
		return
	}
	answer, err := c.one(ctx, o)
	conclude(o, answer, err)
	if err != nil || o.Verb == history.Delete || o.Verb == history.DeleteUID {
		return
	}
	seen := answer.Metadata.seen()
	o.Objects = map[string]history.Seen{o.Key: seen}
	if o.Verb != history.Get {
		o.Revision = seen.Rev
	}
}

// one carries out an operation on one object.
func (c *client) one(ctx context.Context, o *history.Operation) (*object, error) {
	k := kinds[o.Log]
	namespace, name := address(o.Key)
	const asJSON = "application/json"
	body := &object{APIVersion: k.apiVersion, Kind: k.kind, Metadata: meta{Name: name, Namespace: namespace}}
	body.Metadata.mark(o.Token)
	switch o.Verb {
	case history.Create:
		return c.ask(ctx, http.MethodPost, k.collection(namespace), asJSON, body)
	case history.Update:
		body.Metadata.UID, body.Metadata.ResourceVersion = o.UID, strconv.FormatUint(o.Expect, 10)
		return c.ask(ctx, http.MethodPut, k.path(o.Key), asJSON, body)
	case history.Patch:
		patch := &object{}
		patch.Metadata.mark(o.Token)
		return c.ask(ctx, http.MethodPatch, k.path(o.Key), "application/merge-patch+json", patch)
	case history.Delete, history.DeleteUID:
		preconditions := map[string]string{"resourceVersion": strconv.FormatUint(o.Expect, 10)}
		if o.Verb == history.DeleteUID {
			preconditions = map[string]string{"uid": o.UID}
		}
		options := map[string]any{"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions}
		return c.ask(ctx, http.MethodDelete, k.path(o.Key), asJSON, options)
	default:
		return c.ask(ctx, http.MethodGet, k.path(o.Key), "", nil)
	}
}

// list reads a namespace, in pages if the operation says so, and keeps what is in the operation's space.
func (c *client) list(ctx context.Context, o *history.Operation) (*object, error) {
	folder := o.Space[:strings.LastIndexByte(o.Space, '/')]
	namespace, _ := address(o.Space)
	q := url.Values{}
	if o.Limit > 0 {
		q.Set("limit", strconv.Itoa(o.Limit))
	}
	if o.Verb == history.ListAt {
		q.Set("resourceVersion", strconv.FormatUint(o.Since, 10))
		q.Set("resourceVersionMatch", "Exact")
	}
	o.Objects = map[string]history.Seen{}
	for {
		page, err := c.ask(ctx, http.MethodGet, kinds[o.Log].collection(namespace)+"?"+q.Encode(), "", nil)
		if err != nil {
			return page, err
		}
		o.Revision = page.Metadata.seen().Rev
		for _, item := range page.Items {
			if key := folder + "/" + item.Metadata.Name; strings.HasPrefix(key, o.Space) {
				o.Objects[key] = item.Metadata.seen()
			}
		}
		if page.Metadata.Continue == "" {
			return page, nil
		}
		q = url.Values{"limit": q["limit"], "continue": {page.Metadata.Continue}}
	}
}

// conclude notes how an operation ended. What no rule of the API explains is of unknown outcome.
func conclude(o *history.Operation, answer *object, err error) {
	switch {
	case err == nil:
		o.Outcome = history.OK
	case errors.Is(err, syscall.ECONNREFUSED):
		o.Fail(history.Unsent, err)
	case answer == nil:
		o.Fail(history.Unknown, err)
	case answer.Code == http.StatusNotFound && answer.Reason == "NotFound":
		o.Fail(history.NotFound, err)
	case answer.Code == http.StatusConflict && answer.Reason == "AlreadyExists":
		o.Fail(history.Exists, err)
	case answer.Code == http.StatusConflict && answer.Reason == "Conflict":
		o.Fail(history.Conflict, err)
	case answer.Code == http.StatusGone:
		o.Fail(history.Gone, err)
	default:
		o.Fail(history.Unknown, err)
	}
}

// Watch implements workload.Instance.
func (c *client) Watch(ctx context.Context, r history.Request, yield func(history.Delivery)) (bool, error) {
	namespace := strings.TrimSuffix(strings.SplitN(r.Prefix, "/", 3)[2], "/")
	q := url.Values{"watch": {"true"}, "allowWatchBookmarks": {strconv.FormatBool(r.Bookmarks)}}
	if r.Colour != "" {
		q.Set("labelSelector", colourName+"="+r.Colour)
	}
	if r.Initial {
		q.Set("sendInitialEvents", "true")
		q.Set("resourceVersionMatch", "NotOlderThan")
	} else {
		q.Set("resourceVersion", strconv.FormatUint(r.From, 10))
	}
	if r.Bookmarks {
		// A bookmark comes two seconds before the end.
		q.Set("timeoutSeconds", "3")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+kinds[r.Log].collection(namespace)+"?"+q.Encode(), nil)
	if err != nil {
		return false, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return false, nil // the process is not there
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return resp.StatusCode == http.StatusGone, nil
	}
	for d := json.NewDecoder(resp.Body); ; {
		var ev struct {
			Type   string
			Object object
		}
		if err := d.Decode(&ev); err != nil {
			return false, nil // the connection ended
		}
		if ev.Type == "ERROR" {
			if ev.Object.Code == http.StatusGone {
				return true, nil
			}
			return false, fmt.Errorf("%d %s: %s", ev.Object.Code, ev.Object.Reason, ev.Object.Message)
		}
		yield(delivery(r, ev.Type, ev.Object.Metadata))
	}
}

func delivery(r history.Request, eventType string, m meta) history.Delivery {
	seen := m.seen()
	d := history.Delivery{Type: eventType, Rev: seen.Rev}
	if eventType == history.Bookmark {
		d.InitialEnd = m.Annotations["k8s.io/initial-events-end"] == "true"
		return d
	}
	d.Key, d.Token = strings.Join(strings.SplitN(r.Prefix, "/", 3)[:2], "/")+"/"+m.Namespace+"/"+m.Name, seen.Token
	return d
}

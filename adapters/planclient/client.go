// Package planclient carries out plans through the API's own path, in process: every write is
// validated, admitted and attributed as anyone's, held back in a scope, and committed together with
// the others of its plan if nothing in the plan's read set has moved (docs/decisions.md, D7, D8).
package planclient

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	authorizationv1 "k8s.io/api/authorization/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/zeroplane/zeroplane/adapters/apiserver"
	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/plan"
)

// workers is the number of a plan's writes that are under way at once. Each is work for a processor.
const workers = 4

// Client carries out plans as one user.
type Client struct {
	config  *rest.Config
	logs    kubestorage.Logs
	decoder kubestorage.Decoder

	workers int

	mu   sync.Mutex
	byGV map[schema.GroupVersion]*rest.RESTClient
}

// New returns a client. The configuration's transport must reach the API of the logs' cluster.
func New(config *rest.Config, logs kubestorage.Logs, decoder kubestorage.Decoder) *Client {
	return &Client{config: config, logs: logs, decoder: decoder, workers: workers, byGV: map[schema.GroupVersion]*rest.RESTClient{}}
}

// InBackground lets the client use one processor at a time, so that what others decide comes first.
func (c *Client) InBackground() *Client {
	c.workers = 1
	return c
}

// Outcome is what became of a plan.
type Outcome struct {
	// Refused is the first write that the API refused, nil if there was none, and why. Writes after
	// it were not tried; those before it are committed.
	Refused *plan.Write
	Err     error
	// Notices that the writes gave.
	Notices []plan.Notice
	// Committed are the revisions of the last changes, by log group.
	Committed Revisions
}

// ErrStale is returned when what a plan was decided on has changed: load and decide again.
var ErrStale = errors.New("the plan is stale")

// Apply carries out a plan that was decided on a snapshot. It fails with ErrStale, or when the
// store does.
func (c *Client) Apply(ctx context.Context, p plan.Plan, at Revisions) (Outcome, error) {
	if !tablelog.Begun(ctx) {
		ctx = tablelog.Begin(ctx)
	}
	scoped, scope := kubestorage.WithScope(ctx)
	out := c.writeAll(scoped, p.Writes)
	if out.Err != nil && stale(out.Err) {
		return out, fmt.Errorf("%w: %w", ErrStale, out.Err)
	}
	if err := c.lookAgain(ctx, p.Reads, at); err != nil {
		return out, err
	}
	err := scope.Commit(ctx, c.guards(p.Reads, at))
	out.Committed = c.revisions(scope.Committed())
	var conflict *tablelog.ConflictError
	if errors.Is(err, tablelog.ErrReadSetMoved) || errors.As(err, &conflict) {
		return out, fmt.Errorf("%w: %w", ErrStale, err)
	}
	return out, err
}

// revisions names logs by their groups.
func (c *Client) revisions(of map[*tablelog.Log]uint64) Revisions {
	out := Revisions{}
	for group, log := range c.logs {
		if rev := of[log]; rev != 0 {
			out[group] = rev
		}
	}
	return out
}

// stale reports whether a refusal only says that the snapshot was old.
func stale(err error) bool {
	return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) && !ofNamespace(err)
}

// ofNamespace reports whether what an error is about is a namespace.
func ofNamespace(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Details == nil {
		return false
	}
	return status.Status().Details.Kind == plan.Namespaces.Resource
}

// writeAll sends writes in runs of equal verb and resource, each run by several workers.
func (c *Client) writeAll(ctx context.Context, writes []plan.Write) Outcome {
	var out Outcome
	for start := 0; start < len(writes) && out.Err == nil; {
		end := start + 1
		for end < len(writes) && joins(&writes[end], &writes[end-1]) {
			end++
		}
		c.writeRun(ctx, writes[start:end], start, &out)
		start = end
	}
	return out
}

// joins reports whether a write may go at the same time as the one before it: it does the same to
// another object of the same resource. What is created has no name yet, or one of its own.
func joins(w, before *plan.Write) bool {
	return w.Verb == before.Verb && w.Resource == before.Resource && (w.Verb == plan.Create || w.Name != before.Name)
}

// writeRun sends writes of one kind, which are those of the plan from a place on. The first goes alone: what refuses it
// refuses them all. They are committed in the plan's order, of which a crash may leave a part.
func (c *Client) writeRun(ctx context.Context, writes []plan.Write, from int, out *Outcome) {
	var mu sync.Mutex
	record := func(w *plan.Write, obj runtime.Object, err error) {
		mu.Lock()
		defer mu.Unlock()
		out.note(w, obj, err)
	}
	send := func(i int) error {
		obj, err := c.write(kubestorage.InPlace(ctx, from+i), &writes[i])
		record(&writes[i], obj, err)
		return err
	}
	if send(0) != nil {
		return
	}
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(c.workers, len(writes)-1) {
		wg.Go(func() {
			for i := range next {
				_ = send(i) // it is recorded
			}
		})
	}
	for i := 1; i < len(writes); i++ {
		mu.Lock()
		failed := out.Err != nil
		mu.Unlock()
		if failed {
			break
		}
		next <- i
	}
	close(next)
	wg.Wait()
}

func (o *Outcome) note(w *plan.Write, obj runtime.Object, err error) {
	if err != nil {
		if o.Err == nil {
			o.Refused, o.Err = w, err
		}
		if w.IfFailed != nil {
			n := *w.IfFailed
			n.Message = strings.ReplaceAll(n.Message, "%v", err.Error())
			o.Notices = append(o.Notices, n)
		}
		return
	}
	if w.OnSuccess != nil {
		n := *w.OnSuccess
		name := w.Name
		if accessor, err := meta.Accessor(obj); obj != nil && err == nil {
			name = accessor.GetName()
		}
		n.Message = strings.ReplaceAll(n.Message, "{{name}}", name)
		o.Notices = append(o.Notices, n)
	}
}

func (c *Client) client(gv schema.GroupVersion) (*rest.RESTClient, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if rc := c.byGV[gv]; rc != nil {
		return rc, nil
	}
	config := rest.CopyConfig(c.config)
	config.GroupVersion = &gv
	config.APIPath = "/apis"
	if gv.Group == "" {
		config.APIPath = "/api"
	}
	config.NegotiatedSerializer = rest.CodecFactoryForGeneratedClient(apiserver.Scheme, apiserver.Codecs).WithoutConversion()
	rc, err := rest.RESTClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("making a client of %s: %w", gv, err)
	}
	c.byGV[gv] = rc
	return rc, nil
}

// write sends one write and returns the object that the API answered with, if any.
func (c *Client) write(ctx context.Context, w *plan.Write) (runtime.Object, error) {
	rc, err := c.client(w.Resource.GroupVersion())
	if err != nil {
		return nil, err
	}
	req, err := request(rc, w)
	if err != nil {
		return nil, err
	}
	req = req.NamespaceIfScoped(w.Namespace, w.Namespace != "").Resource(w.Resource.Resource)
	if w.Verb != plan.Create {
		req = req.Name(w.Name)
	}
	if w.Verb == plan.Delete {
		return nil, ignoreGone(req.Do(ctx).Error())
	}
	return answer(req.Do(ctx))
}

// answer returns the object that the API answered with. Custom kinds are in no scheme.
func answer(result rest.Result) (runtime.Object, error) {
	if err := result.Error(); err != nil {
		return nil, err
	}
	obj, err := result.Get()
	if err == nil || !runtime.IsNotRegisteredError(err) {
		return obj, err
	}
	data, err := result.Raw()
	if err != nil {
		return nil, err
	}
	obj, _, err = unstructured.UnstructuredJSONScheme.Decode(data, nil, nil)
	return obj, err
}

// Scale returns the scale of an object. It fails as the API does.
func (c *Client) Scale(ctx context.Context, of plan.Ref) (*autoscalingv1.Scale, error) {
	rc, err := c.client(of.Resource.GroupVersion())
	if err != nil {
		return nil, err
	}
	scale := &autoscalingv1.Scale{}
	req := rc.Get().NamespaceIfScoped(of.Namespace, of.Namespace != "").Resource(of.Resource.Resource).Name(of.Name).SubResource(plan.Scale)
	return scale, req.Do(ctx).Into(scale)
}

// Review asks the API whether somebody may do something. It fails as the API does.
func (c *Client) Review(ctx context.Context, question authorizationv1.SubjectAccessReviewSpec) (allowed bool, err error) {
	rc, err := c.client(authorizationv1.SchemeGroupVersion)
	if err != nil {
		return false, err
	}
	review := &authorizationv1.SubjectAccessReview{Spec: question}
	if err := rc.Post().Resource("subjectaccessreviews").Body(review).Do(ctx).Into(review); err != nil {
		return false, err
	}
	return review.Status.Allowed, nil
}

// ignoreGone takes the absence of what was to be deleted for success.
func ignoreGone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func request(rc *rest.RESTClient, w *plan.Write) (*rest.Request, error) {
	switch w.Verb {
	case plan.Create:
		return rc.Post().Body(w.Object), nil
	case plan.Update:
		req := rc.Put().Body(w.Object)
		if w.Subresource != "" {
			req = req.SubResource(w.Subresource)
		}
		return req, nil
	case plan.UpdateStatus:
		return rc.Put().SubResource("status").Body(w.Object), nil
	case plan.Finalize:
		return rc.Put().SubResource("finalize").Body(w.Object), nil
	case plan.Patch:
		req := rc.Patch(w.PatchType).Body(w.PatchBody)
		if w.Subresource != "" {
			req = req.SubResource(w.Subresource)
		}
		return req, nil
	case plan.Apply:
		req := rc.Patch(types.ApplyPatchType).Body(w.PatchBody).Param("fieldManager", w.FieldManager).Param("force", "true")
		if w.Subresource != "" {
			req = req.SubResource(w.Subresource)
		}
		return req, nil
	case plan.Delete:
		return rc.Delete().Body(deleteOptions(w)), nil
	case plan.Evict:
		// A budget's refusal is an answer, and not to be waited for here.
		return rc.Post().SubResource("eviction").MaxRetries(0).Body(&policyv1.Eviction{
			ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: w.Name}, DeleteOptions: deleteOptions(w),
		}), nil
	case plan.Bind:
		return rc.Post().SubResource("binding").Body(&corev1.Binding{
			ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: w.Name, UID: w.UID},
			Target:     corev1.ObjectReference{Kind: "Node", Name: w.Node},
		}), nil
	default:
		return nil, fmt.Errorf("a plan has the unknown verb %q", w.Verb)
	}
}

func deleteOptions(w *plan.Write) *metav1.DeleteOptions {
	o := &metav1.DeleteOptions{PropagationPolicy: w.Propagation, GracePeriodSeconds: w.GracePeriodSeconds}
	if w.UID != "" {
		o.Preconditions = &metav1.Preconditions{UID: &w.UID}
		if w.ResourceVersion != "" {
			o.Preconditions.ResourceVersion = &w.ResourceVersion
		}
	}
	return o
}

// Malfunction reports whether an error of the API says that it could not answer, and not what its answer is.
func Malfunction(err error) bool {
	var answer apierrors.APIStatus
	return !errors.As(err, &answer) || apierrors.IsInternalError(err) || apierrors.IsServiceUnavailable(err) || apierrors.IsTimeout(err)
}

// Terminating reports whether a write was refused because its namespace goes away.
func Terminating(err error) bool {
	return apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
}

package signals

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/core/departure"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/events/foreign"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

const (
	// eventLife is how long Events are kept, as kube-apiserver's --event-ttl by default. What is older makes none: it would
	// make another when it comes again.
	eventLife = time.Hour
	// maxMessage of an Event, in bytes (NoteLengthLimit of pkg/apis/core/validation/events.go).
	maxMessage = 1024
	// maxRecorded nodes get an Event of one alert.
	maxRecorded = 10
)

var eventResource = corev1.SchemeGroupVersion.WithResource("events")

// record is an Event to be made once: its name is of what it is about.
type record struct {
	regarding       corev1.ObjectReference
	namespace       string
	kind            string
	reason, message string
	at              time.Time
	// of tells the event of somebody else from all others.
	of []string
}

func onNode(node *corev1.Node) (corev1.ObjectReference, string) {
	return corev1.ObjectReference{Kind: "Node", APIVersion: "v1", Name: node.Name, UID: node.UID}, metav1.NamespaceDefault
}

// onCluster is what an Event regards that is about nothing in particular.
func onCluster() (corev1.ObjectReference, string) {
	return corev1.ObjectReference{Kind: "Namespace", APIVersion: "v1", Namespace: metav1.NamespaceSystem, Name: metav1.NamespaceSystem}, metav1.NamespaceSystem
}

// write makes an Event, unless it is there, or would not be any more.
func (r record) write(ctx context.Context, b *consumer.Batch) error {
	if b.Now.Sub(r.at) > eventLife {
		return nil
	}
	sum := sha256.Sum256([]byte(strings.Join(append(r.of, r.reason), "\x00")))
	name := r.regarding.Name + "." + hex.EncodeToString(sum[:8])
	return decide(ctx, b, func(s *consumer.Snapshot) (plan.Plan, error) {
		_, there, err := consumer.Get[*corev1.Event](s, eventResource.GroupResource(), r.namespace, name)
		if err != nil || there {
			return plan.Plan{}, err
		}
		at := metav1.NewTime(r.at)
		ev := &corev1.Event{
			ObjectMeta: metav1.ObjectMeta{Namespace: r.namespace, Name: name}, InvolvedObject: r.regarding, Type: r.kind, Reason: r.reason,
			Message: strings.ToValidUTF8(r.message[:min(len(r.message), maxMessage)], ""), FirstTimestamp: at, LastTimestamp: at, Count: 1,
			Source: corev1.EventSource{Component: Component}, ReportingController: Component,
		}
		return plan.Plan{Writes: []plan.Write{{Verb: plan.Create, Resource: eventResource, Namespace: r.namespace, Name: name, Object: ev, Reason: r.reason}}}, nil
	})
}

// alert records an alert on the nodes that it is about, or on kube-system.
func alert(ctx context.Context, b *consumer.Batch, m foreign.Alert) error {
	r := record{
		kind: corev1.EventTypeWarning, reason: "AlertFired", at: cmp.Or(m.Time, m.FiredAt), of: []string{m.AlertID, m.Condition, m.FiredAt.UTC().String()},
		message: fmt.Sprintf("%s (%s, %s): %s", m.Rule, m.Severity, m.Signal, m.Condition),
	}
	if strings.EqualFold(m.Condition, "Resolved") {
		r.kind, r.reason = corev1.EventTypeNormal, "AlertResolved"
	}
	if len(m.Targets) > 0 {
		r.message += " on " + strings.Join(m.Targets, ", ")
	}
	recorded := map[string]bool{}
	for _, target := range m.Targets {
		nodes, err := nodesOf(b, departure.Machine{AzureID: target})
		if err != nil {
			return err
		}
		for _, n := range nodes {
			if recorded[n.Name] || len(recorded) == maxRecorded {
				continue
			}
			recorded[n.Name] = true
			r.regarding, r.namespace = onNode(n)
			if err := r.write(ctx, b); err != nil {
				return err
			}
		}
	}
	if len(recorded) > 0 {
		return nil
	}
	r.regarding, r.namespace = onCluster()
	return r.write(ctx, b)
}

// annotate records on its node why a machine's health changed.
func annotate(ctx context.Context, b *consumer.Batch, m foreign.HealthAnnotation) error {
	nodes, err := nodesOf(b, departure.Machine{AzureID: m.Target})
	if err != nil {
		return err
	}
	for _, n := range nodes[:min(len(nodes), maxRecorded)] {
		r := record{
			kind: corev1.EventTypeNormal, reason: "MachineHealthAnnotated", at: m.Occurred, of: []string{m.Source, m.ID},
			message: strings.TrimSpace(fmt.Sprintf("%s %s: %s", m.Name, m.Reason, m.Summary)),
		}
		r.regarding, r.namespace = onNode(n)
		if err := r.write(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

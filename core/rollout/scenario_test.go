package rollout

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/zeroplane/zeroplane/core/podstate"
)

// TestScenarios runs the golden scripts of testdata/scenarios. A script deploys, edits and watches a world:
//
//	deploy NAME key=value...   make a Deployment and settle
//	edit NAME key=value...     change it (keys as in configure) and settle, or run rounds=N
//	settle, rounds n=N         let everyone act
//	wait                       go to the next moment that a plan asked for, and settle
//	refuse [message=M]         let creates of pods fail, or work again
//	orphan, relabel            take away or change what ties a ReplicaSet or pod to its controller
//	show                       print the world
//
// Each command prints the events that it caused and the writes that they took.
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata/scenarios", func(t *testing.T, path string) {
		w := newWorld()
		datadriven.RunTest(t, path, func(_ *testing.T, data *datadriven.TestData) string {
			w.events, w.writes = nil, 0
			if err := run(w, data); err != nil {
				return "error: " + err.Error() + "\n"
			}
			if data.Cmd == "show" {
				return show(w)
			}
			return fmt.Sprintf("%s(%d writes)\n", lines(w.events), w.writes)
		})
	})
}

func lines(all []string) string {
	text := strings.Builder{}
	for _, line := range all {
		text.WriteString(line + "\n")
	}
	return text.String()
}

func run(w *world, data *datadriven.TestData) error {
	switch data.Cmd {
	case "deploy":
		d := newDeployment(data.CmdArgs[0].Key, 3)
		if err := configure(d, data.CmdArgs[1:]); err != nil {
			return err
		}
		w.putDeployment(d)
		return runRounds(w, data)
	case "edit":
		var err error
		w.edit(data.CmdArgs[0].Key, func(d *appsv1.Deployment) { err = configure(d, data.CmdArgs[1:]) })
		if err != nil {
			return err
		}
		return runRounds(w, data)
	case "settle", "rounds":
		return runRounds(w, data)
	case "wait":
		return wait(w)
	case "refuse":
		w.refusePods = ""
		if data.HasArg("message") {
			w.refusePods = "quota"
		}
		return nil
	case "orphan":
		return detach(w, data.CmdArgs[0].Key, func(meta *metav1.ObjectMeta) { meta.OwnerReferences = nil })
	case "relabel":
		return detach(w, data.CmdArgs[0].Key, func(meta *metav1.ObjectMeta) { meta.Labels = map[string]string{"app": "other"} })
	case "show":
		return nil
	}
	return fmt.Errorf("no such command: %s", data.Cmd)
}

func runRounds(w *world, data *datadriven.TestData) error {
	for _, arg := range data.CmdArgs {
		if arg.Key != "rounds" {
			continue
		}
		n, err := strconv.Atoi(arg.Vals[0])
		for i := 0; i < n && err == nil; i++ {
			_, err = w.round()
		}
		return err
	}
	return w.settle()
}

// wait moves the clock to the earliest Later, which is used up.
func wait(w *world) error {
	next := ""
	for key, l := range w.later {
		if next == "" || l.At.Before(w.later[next].At) {
			next = key
		}
	}
	if next == "" {
		return fmt.Errorf("nothing to wait for")
	}
	w.events = append(w.events, fmt.Sprintf("woken for %s after %s", next, w.later[next].At.Sub(w.now)))
	w.now = w.later[next].At
	delete(w.later, next)
	return w.settle()
}

func detach(w *world, name string, change func(*metav1.ObjectMeta)) error {
	if rs := w.sets[name]; rs != nil {
		rs = rs.DeepCopy()
		change(&rs.ObjectMeta)
		w.stamp(&rs.ObjectMeta)
		w.sets[name] = rs
		return w.settle()
	}
	if pod := w.pods[name]; pod != nil {
		pod = pod.DeepCopy()
		change(&pod.ObjectMeta)
		w.stamp(&pod.ObjectMeta)
		w.pods[name] = pod
		return w.settle()
	}
	return fmt.Errorf("no ReplicaSet or pod %q", name)
}

func configure(d *appsv1.Deployment, args []datadriven.CmdArg) error {
	for _, arg := range args {
		value := ""
		if len(arg.Vals) > 0 {
			value = arg.Vals[0]
		}
		if err := configureOne(d, arg.Key, value); err != nil {
			return err
		}
	}
	return nil
}

func configureOne(d *appsv1.Deployment, key, value string) error {
	number := func() *int32 {
		n, _ := strconv.Atoi(value)
		n32 := int32(n)
		return &n32
	}
	switch key {
	case "rounds":
	case "replicas":
		d.Spec.Replicas = number()
	case "image":
		d.Spec.Template.Spec.Containers[0].Image = value
	case "strategy":
		d.Spec.Strategy.Type = appsv1.DeploymentStrategyType(value)
		d.Spec.Strategy.RollingUpdate = nil
	case "surge":
		parsed := intstr.Parse(value)
		d.Spec.Strategy.RollingUpdate.MaxSurge = &parsed
	case "unavailable":
		parsed := intstr.Parse(value)
		d.Spec.Strategy.RollingUpdate.MaxUnavailable = &parsed
	case "min-ready":
		d.Spec.MinReadySeconds = *number()
	case "deadline":
		d.Spec.ProgressDeadlineSeconds = number()
	case "history":
		d.Spec.RevisionHistoryLimit = number()
	case "paused":
		d.Spec.Paused = value == "true"
	case "annotate":
		name, text, _ := strings.Cut(value, ":")
		metav1.SetMetaDataAnnotation(&d.ObjectMeta, name, text)
	case "rollback":
		metav1.SetMetaDataAnnotation(&d.ObjectMeta, appsv1.DeprecatedRollbackTo, value)
	default:
		return fmt.Errorf("no such field: %s", key)
	}
	return nil
}

func show(w *world) string {
	text := strings.Builder{}
	for _, d := range sorted(w.deployments) {
		s := d.Status
		fmt.Fprintf(&text, "deployment/%s revision=%s replicas=%d updated=%d ready=%d available=%d unavailable=%d terminating=%s observed=%t\n",
			d.Name, d.Annotations[RevisionAnnotation], s.Replicas, s.UpdatedReplicas, s.ReadyReplicas,
			s.AvailableReplicas, s.UnavailableReplicas, number(s.TerminatingReplicas), s.ObservedGeneration == d.Generation)
		for _, c := range s.Conditions {
			fmt.Fprintf(&text, "  %s=%s %s: %s\n", c.Type, c.Status, c.Reason, c.Message)
		}
	}
	for _, rs := range byCreation(sorted(w.sets)) {
		fmt.Fprintf(&text, "replicaset/%s image=%s size=%d replicas=%d ready=%d available=%d terminating=%s\n  revision=%s",
			rs.Name, rs.Spec.Template.Spec.Containers[0].Image, sizeOf(rs), rs.Status.Replicas, rs.Status.ReadyReplicas,
			rs.Status.AvailableReplicas, number(rs.Status.TerminatingReplicas), rs.Annotations[RevisionAnnotation])
		if history := rs.Annotations[RevisionHistoryAnnotation]; history != "" {
			fmt.Fprintf(&text, " history=%s", history)
		}
		fmt.Fprintf(&text, " desired=%s max=%s\n", rs.Annotations[DesiredReplicasAnnotation], rs.Annotations[MaxReplicasAnnotation])
		for _, c := range rs.Status.Conditions {
			fmt.Fprintf(&text, "  %s=%s %s: %s\n", c.Type, c.Status, c.Reason, c.Message)
		}
	}
	for _, pod := range sorted(w.pods) {
		fmt.Fprintf(&text, "pod/%s %s\n", pod.Name, podState(pod))
	}
	for _, l := range sorted(w.later) {
		fmt.Fprintf(&text, "later %s of %s in %s\n", l.Kind, l.Subject.Name, l.At.Sub(w.now).Round(time.Second))
	}
	return text.String()
}

func podState(pod *corev1.Pod) string {
	switch {
	case pod.DeletionTimestamp != nil:
		return "terminating"
	case podstate.IsReady(pod):
		return "ready"
	default:
		return strings.ToLower(string(pod.Status.Phase))
	}
}

func number(n *int32) string {
	if n == nil {
		return "none"
	}
	return strconv.Itoa(int(*n))
}

package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/zeroplane/zeroplane/core/kubelet"
	"github.com/zeroplane/zeroplane/core/plan"
)

const (
	// team is where most is, tight has a quota, and side is deleted at times.
	team, tight, side = "team", "tight", "side"
	// mostReplicas is what anybody asks for.
	mostReplicas = 3
)

// do is one thing on its way: it is repeated until it is done.
type do func(context.Context) error

// action is something that happens. Plan decides what, by chance and by what there is; nil if there is nothing to do.
type action struct {
	name   string
	weight int
	plan   func(*game) do
}

// choose draws the next action.
func (g *game) choose() action {
	total := 0
	for i := range g.actions {
		total += g.actions[i].weight
	}
	n := g.r.IntN(total)
	for _, a := range g.actions {
		if n -= a.weight; n < 0 {
			return a
		}
	}
	panic("unreachable")
}

// repertoire is what happens in a round: everything in one of five, else the first and about half of the others, drawn by chance, so that
// what is left has more turns and meets what it would otherwise seldom meet (Groce et al., Swarm Testing, ISSTA 2012).
func repertoire(r *rand.Rand) []action {
	everything := r.IntN(5) == 0
	drawn := []action{allActions[0]}
	for _, a := range allActions[1:] {
		if everything || r.IntN(2) == 0 {
			drawn = append(drawn, a)
		}
	}
	return drawn
}

var allActions []action

func init() { //nolint:gochecknoinits // the table refers to functions that refer to it
	allActions = slices.Concat(userActions, troubles)
}

var userActions = []action{
	{"make or scale a deployment", 16, func(g *game) do {
		name, ns, replicas := g.one("web", "api"), g.one(team, team, team, tight, side), g.replicas()
		surge, unavailable := g.fence(), g.fence()
		return g.scaleOr(plan.Deployments, ns, name, replicas, func(ctx context.Context) error {
			d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: appsv1.DeploymentSpec{
				Replicas: &replicas, Selector: selecting(name), Template: template(name),
				Strategy: appsv1.DeploymentStrategy{RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: surge, MaxUnavailable: unavailable}},
			}}
			if g.zero(surge) && g.zero(unavailable) {
				d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
			}
			_, err := g.client.AppsV1().Deployments(ns).Create(ctx, d, metav1.CreateOptions{})
			return err
		})
	}},
	{"set a deployment's image", 16, func(g *game) do {
		return g.setImage(plan.Deployments, g.one(team, team, tight, side), g.one("web", "api"))
	}},
	{"pause or resume a deployment", 4, func(g *game) do {
		return g.patch(plan.Deployments, team, g.one("web", "api"), `{"spec":{"paused":%t}}`, g.coin())
	}},
	{"undo a deployment's rollout", 4, func(g *game) do { return g.undo(g.one("web", "api")) }},
	{"delete a deployment", 5, func(g *game) do { return g.remove(plan.Deployments, g.one("web", "api")) }},
	{"make or scale a stateful set", 10, func(g *game) do {
		name, replicas := g.one("db", "cache"), g.replicas()
		policy := appsv1.OrderedReadyPodManagement
		if g.coin() {
			policy = appsv1.ParallelPodManagement
		}
		return g.scaleOr(plan.StatefulSets, team, name, replicas, func(ctx context.Context) error {
			s := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: appsv1.StatefulSetSpec{
				Replicas: &replicas, Selector: selecting(name), Template: template(name), PodManagementPolicy: policy,
			}}
			_, err := g.client.AppsV1().StatefulSets(team).Create(ctx, s, metav1.CreateOptions{})
			return err
		})
	}},
	{"set a stateful set's image", 6, func(g *game) do { return g.setImage(plan.StatefulSets, team, g.one("db", "cache")) }},
	{"partition a stateful set", 2, func(g *game) do {
		return g.patch(plan.StatefulSets, team, g.one("db", "cache"), `{"spec":{"updateStrategy":{"rollingUpdate":{"partition":%d}}}}`, g.r.IntN(3))
	}},
	{"delete a stateful set", 3, func(g *game) do { return g.remove(plan.StatefulSets, g.one("db", "cache")) }},
	{"make a daemon set or set its image", 5, func(g *game) do {
		set := g.setImage(plan.DaemonSets, team, "agent")
		if set != nil {
			return set
		}
		return func(ctx context.Context) error {
			d := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: "agent"}, Spec: appsv1.DaemonSetSpec{Selector: selecting("agent"), Template: template("agent")}}
			_, err := g.client.AppsV1().DaemonSets(team).Create(ctx, d, metav1.CreateOptions{})
			return err
		}
	}},
	{"delete a daemon set", 1, func(g *game) do { return g.remove(plan.DaemonSets, "agent") }},
	{"make a job", 10, func(g *game) do {
		name, spec := fmt.Sprint("job-", g.r.IntN(4)), g.jobSpec()
		return func(ctx context.Context) error {
			_, err := g.client.BatchV1().Jobs(team).Create(ctx, &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}, metav1.CreateOptions{})
			return err
		}
	}},
	{"suspend or resume a job", 4, func(g *game) do {
		return g.patch(plan.Jobs, team, fmt.Sprint("job-", g.r.IntN(4)), `{"spec":{"suspend":%t}}`, g.coin())
	}},
	{"delete a job", 4, func(g *game) do { return g.remove(plan.Jobs, fmt.Sprint("job-", g.r.IntN(4))) }},
	{"make a cron job", 2, func(g *game) do {
		name, spec := g.one("tick", "tock"), g.jobSpec()
		policy := batchv1.ConcurrencyPolicy(g.one(string(batchv1.AllowConcurrent), string(batchv1.ForbidConcurrent), string(batchv1.ReplaceConcurrent)))
		return func(ctx context.Context) error {
			cron := &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: batchv1.CronJobSpec{
				Schedule: "*/2 * * * *", ConcurrencyPolicy: policy, JobTemplate: batchv1.JobTemplateSpec{Spec: spec},
			}}
			_, err := g.client.BatchV1().CronJobs(team).Create(ctx, cron, metav1.CreateOptions{})
			return err
		}
	}},
	{"delete a cron job", 2, func(g *game) do { return g.remove(plan.CronJobs, g.one("tick", "tock")) }},
	{"make or scale a replication controller", 4, func(g *game) do {
		replicas := g.replicas()
		return g.scaleOr(plan.ReplicationControllers, team, "old", replicas, func(ctx context.Context) error {
			made := template("old")
			rc := &corev1.ReplicationController{ObjectMeta: metav1.ObjectMeta{Name: "old"}, Spec: corev1.ReplicationControllerSpec{
				Replicas: &replicas, Selector: made.Labels, Template: &made,
			}}
			_, err := g.client.CoreV1().ReplicationControllers(team).Create(ctx, rc, metav1.CreateOptions{})
			return err
		})
	}},
	{"delete a replication controller", 1, func(g *game) do { return g.remove(plan.ReplicationControllers, "old") }},
	{"make a service", 6, func(g *game) do {
		name, kind, port := fmt.Sprint("service-", g.r.IntN(6)), corev1.ServiceTypeClusterIP, corev1.ServicePort{Port: 80}
		if g.coin() {
			kind, port.NodePort = corev1.ServiceTypeNodePort, int32(g.r.IntN(2)*(30_000+g.r.IntN(3))) // any, or one that others want, too
		}
		return func(ctx context.Context) error {
			s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{
				Type: kind, Selector: selecting("web").MatchLabels, Ports: []corev1.ServicePort{port},
			}}
			_, err := g.client.CoreV1().Services(team).Create(ctx, s, metav1.CreateOptions{})
			if apierrors.IsInvalid(err) {
				return nil // another has the port
			}
			return err
		}
	}},
	{"delete a service", 4, func(g *game) do {
		name := fmt.Sprint("service-", g.r.IntN(6))
		return func(ctx context.Context) error {
			return g.client.CoreV1().Services(team).Delete(ctx, name, metav1.DeleteOptions{})
		}
	}},
	{"make or delete a budget", 4, func(g *game) do {
		least, away := intstr.FromInt32(int32(1+g.r.IntN(2))), g.r.IntN(3) == 0
		app := g.one("web", "db")
		return func(ctx context.Context) error {
			budgets := g.client.PolicyV1().PodDisruptionBudgets(team)
			if away {
				return budgets.Delete(ctx, app, metav1.DeleteOptions{})
			}
			b := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: app}, Spec: policyv1.PodDisruptionBudgetSpec{MinAvailable: &least, Selector: selecting(app)}}
			_, err := budgets.Create(ctx, b, metav1.CreateOptions{})
			return err
		}
	}},
	{"change the quota", 2, func(g *game) do {
		most := int64(3 + g.r.IntN(4))
		return func(ctx context.Context) error { return g.setQuota(ctx, most) }
	}},
	{"delete a namespace", 1, func(g *game) do {
		return func(ctx context.Context) error {
			return conflictIsDone(g.client.CoreV1().Namespaces().Delete(ctx, side, metav1.DeleteOptions{}))
		}
	}},
	{"make a namespace", 2, func(g *game) do {
		return func(ctx context.Context) error { return g.makeNamespace(ctx, side) }
	}},
	{"evict a pod", 8, func(g *game) do {
		pod := g.pod(team, func(*corev1.Pod) bool { return true })
		if pod == nil {
			return nil
		}
		return func(ctx context.Context) error {
			return conflictIsDone(g.client.CoreV1().Pods(team).EvictV1(ctx, &policyv1.Eviction{
				ObjectMeta: metav1.ObjectMeta{Name: pod.Name}, DeleteOptions: &metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(pod.UID))},
			}))
		}
	}},
}

// conflictIsDone is for preconditions: the pod of that UID is gone.
func conflictIsDone(err error) error {
	if apierrors.IsConflict(err) {
		return nil
	}
	return err
}

func (g *game) one(of ...string) string { return of[g.r.IntN(len(of))] }

func (g *game) coin() bool { return g.r.IntN(2) == 0 }

func (g *game) replicas() int32 { return int32(g.r.IntN(mostReplicas + 1)) }

// fence is a maxSurge or maxUnavailable.
func (g *game) fence() *intstr.IntOrString {
	value := []intstr.IntOrString{intstr.FromInt32(0), intstr.FromInt32(1), intstr.FromInt32(2), intstr.FromString("25%")}[g.r.IntN(4)]
	return &value
}

func (g *game) zero(fence *intstr.IntOrString) bool {
	return fence.IntValue() == 0 && fence.Type == intstr.Int
}

// jobSpec is a Job that ends, well or not.
func (g *game) jobSpec() batchv1.JobSpec {
	n := int32(1 + g.r.IntN(3))
	made := template("job")
	made.Spec.RestartPolicy = corev1.RestartPolicyNever
	made.Annotations = map[string]string{kubelet.RunSeconds: fmt.Sprint(1 + g.r.IntN(180)), kubelet.ExitCode: fmt.Sprint(g.r.IntN(4) / 3)}
	spec := batchv1.JobSpec{Completions: &n, Parallelism: new(int32(1 + g.r.IntN(3))), BackoffLimit: new(int32(g.r.IntN(3))), Template: made}
	if g.coin() {
		spec.CompletionMode = new(batchv1.IndexedCompletion)
	}
	if g.r.IntN(3) == 0 {
		spec.TTLSecondsAfterFinished = new(int32(g.r.IntN(60)))
	}
	return spec
}

func selecting(app string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}
}

func template(app string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: selecting(app).MatchLabels},
		Spec: corev1.PodSpec{
			TerminationGracePeriodSeconds: new(int64(5)),
			Containers: []corev1.Container{{Name: "c", Image: "nginx:0", Resources: corev1.ResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")},
			}}},
		},
	}
}

// patch changes an object, if there is one.
func (g *game) patch(what schema.GroupVersionResource, ns, name, format string, args ...any) do {
	if g.seen.get(what, ns, name) == nil {
		return nil
	}
	return func(ctx context.Context) error { return g.send(ctx, what, ns, name, fmt.Appendf(nil, format, args...)) }
}

func (g *game) send(ctx context.Context, what schema.GroupVersionResource, ns, name string, body []byte) error {
	return g.client.RESTClient().Patch(types.StrategicMergePatchType).AbsPath(pathOf(what), "namespaces", ns, what.Resource, name).Body(body).Do(ctx).Error()
}

func pathOf(what schema.GroupVersionResource) string {
	if what.Group == "" {
		return "/api/" + what.Version
	}
	return "/apis/" + what.Group + "/" + what.Version
}

// scaleOr scales an object, or makes it where there is none.
func (g *game) scaleOr(what schema.GroupVersionResource, ns, name string, replicas int32, create do) do {
	if scale := g.patch(what, ns, name, `{"spec":{"replicas":%d}}`, replicas); scale != nil {
		return scale
	}
	return create
}

func (g *game) setImage(what schema.GroupVersionResource, ns, name string) do {
	return g.patch(what, ns, name, `{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"nginx:%d"}]}}}}`, g.r.IntN(4))
}

// undo goes back to what some ReplicaSet of a Deployment ran.
func (g *game) undo(name string) do {
	d, is := g.seen.get(plan.Deployments, team, name).(*appsv1.Deployment)
	if !is {
		return nil
	}
	var images []string
	for _, o := range g.list(plan.ReplicaSets, team) {
		if set := o.(*appsv1.ReplicaSet); metav1.IsControlledBy(set, d) {
			images = append(images, set.Spec.Template.Spec.Containers[0].Image)
		}
	}
	if len(images) == 0 {
		return nil
	}
	return g.patch(plan.Deployments, team, name, `{"spec":{"template":{"spec":{"containers":[{"name":"c","image":%q}]}}}}`, g.one(images...))
}

// remove deletes an object, with what belongs to it or without.
func (g *game) remove(what schema.GroupVersionResource, name string) do {
	o := g.seen.get(what, team, name)
	if o == nil {
		return nil
	}
	policy := metav1.DeletionPropagation(g.one(string(metav1.DeletePropagationBackground), string(metav1.DeletePropagationForeground), string(metav1.DeletePropagationOrphan)))
	if what == plan.Jobs || what == plan.CronJobs || what == plan.DaemonSets {
		policy = metav1.DeletePropagationBackground // nobody would end what they leave
	}
	body := fmt.Appendf(nil, `{"apiVersion":"v1","kind":"DeleteOptions","propagationPolicy":%q,"preconditions":{"uid":%q}}`, policy, o.GetUID())
	return func(ctx context.Context) error {
		return conflictIsDone(g.client.RESTClient().Delete().AbsPath(pathOf(what), "namespaces", team, what.Resource, name).Body(body).Do(ctx).Error())
	}
}

func (g *game) setQuota(ctx context.Context, most int64) error {
	quotas := g.client.CoreV1().ResourceQuotas(tight)
	q, err := quotas.Get(ctx, "pods", metav1.GetOptions{})
	hard := corev1.ResourceList{corev1.ResourcePods: *resource.NewQuantity(most, resource.DecimalSI)}
	if apierrors.IsNotFound(err) {
		_, err = quotas.Create(ctx, &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "pods"}, Spec: corev1.ResourceQuotaSpec{Hard: hard}}, metav1.CreateOptions{})
		return err
	}
	if err != nil {
		return err
	}
	q.Spec.Hard = hard
	_, err = quotas.Update(ctx, q, metav1.UpdateOptions{})
	return err
}

func (g *game) makeNamespace(ctx context.Context, name string) error {
	_, err := g.client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	return err
}

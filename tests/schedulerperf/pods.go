package schedulerperf

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// createPods makes pods and waits until they have nodes, unless it is not to.
//
// Upstream: createPodsOp in operations.go, runCreatePodsOp in executor.go, CreatePod in runners.go.
type createPods struct {
	code
	Count, CountMultiplier int
	SteadyState            bool
	Duration               metav1.Duration
	CollectMetrics         bool
	Namespace              *string
	PodTemplatePath        string
	SkipWaitToCompletion   bool
	TemplateParams         map[string]any
	SignatureBatchSize     int

	PersistentVolumeTemplatePath      string
	PersistentVolumeClaimTemplatePath string
}

// createNamespaces makes namespaces PREFIX-0, PREFIX-1, ...
type createNamespaces struct {
	code
	Prefix                string
	Count                 int
	NamespaceTemplatePath string
}

func (o *createNamespaces) run(ctx context.Context, e *executor, _ int) error {
	for i := range o.Count {
		namespace, err := o.namespace(e.w, i)
		if err != nil {
			return err
		}
		if err := e.namespace(ctx, namespace); err != nil {
			return err
		}
	}
	return nil
}

func (o *createNamespaces) namespace(w *Workload, i int) (*corev1.Namespace, error) {
	namespace := &corev1.Namespace{}
	if o.NamespaceTemplatePath != "" {
		if err := (source{path: o.NamespaceTemplatePath, plain: true}).decode(w.dir, i, namespace); err != nil {
			return nil, err
		}
	}
	namespace.Name = fmt.Sprintf("%s-%d", o.Prefix, i)
	return namespace, nil
}

func (o *createNamespaces) objects(w *Workload) ([]runtime.Object, error) {
	namespace, err := o.namespace(w, 0)
	return []runtime.Object{namespace}, err
}

func (o *createPods) total() int { return o.Count * o.CountMultiplier }

func (o *createPods) namespace(index int) string {
	if o.Namespace != nil {
		return *o.Namespace
	}
	return fmt.Sprintf("namespace-%d", index)
}

func (o *createPods) run(ctx context.Context, e *executor, index int) error {
	namespace := o.namespace(index)
	if err := e.namespaceNamed(ctx, namespace); err != nil {
		return err
	}
	if o.CollectMetrics {
		if err := e.startCollecting(ctx, namespace, []string{namespace}, nil); err != nil {
			return err
		}
	}
	err := o.createAndWait(ctx, e, namespace)
	if o.CollectMetrics {
		if stopErr := e.stopCollecting(); err == nil {
			err = stopErr
		}
	}
	return err
}

func (o *createPods) createAndWait(ctx context.Context, e *executor, namespace string) error {
	nobody := e.options.CreateOnly && o.CollectMetrics
	if o.SteadyState && !nobody {
		return o.steadily(ctx, e, namespace)
	}
	start := time.Now()
	if err := o.create(ctx, e, namespace, o.total(), nobody); err != nil {
		return err
	}
	e.logf("%d pods created in %v", o.total(), time.Since(start))
	if e.collector != nil && o.CollectMetrics {
		e.collector.createdIn(o.total(), time.Since(start))
	}
	switch {
	case nobody:
		return nil
	case o.SkipWaitToCompletion:
		e.awaited[namespace] += o.total()
		return nil
	default:
		return e.pods.awaitScheduled(ctx, e.options.Timeout, namespace, nil, o.total())
	}
}

// create makes n pods, and the volumes that each has of its own.
func (o *createPods) create(ctx context.Context, e *executor, namespace string, n int, nobody bool) error {
	return parallel(ctx, n, func(i int) error {
		pod, err := o.pod(e.w, i, n)
		if err != nil {
			return err
		}
		if o.PersistentVolumeClaimTemplatePath != "" {
			if err := o.bindVolume(ctx, e, namespace, i); err != nil {
				return err
			}
		}
		if nobody {
			pod.Spec.SchedulerName = "nobody"
		}
		return e.createPod(ctx, namespace, pod)
	})
}

// createPod makes one pod. One that names a priority gets the class that stands for it.
func (e *executor) createPod(ctx context.Context, namespace string, pod *corev1.Pod) error {
	if pod.Spec.Priority != nil {
		if err := e.class(ctx, *pod.Spec.Priority); err != nil {
			return err
		}
		classify(pod)
	}
	_, err := e.client.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{})
	return err
}

func classify(pod *corev1.Pod) {
	if pod.Spec.Priority != nil {
		pod.Spec.PriorityClassName = className(*pod.Spec.Priority)
		pod.Spec.Priority = nil
	}
}

// pod is the i-th of n that the operation makes.
//
// Upstream: getPodStrategy and podTemplateWithParams in executor.go.
func (o *createPods) pod(w *Workload, i, n int) (*corev1.Pod, error) {
	path := o.PodTemplatePath
	if path == "" {
		path = w.testCase.DefaultPodTemplatePath
	}
	pod := basePod()
	if path != "" {
		pod = &corev1.Pod{}
		if err := (source{path: path, params: o.TemplateParams, count: n}).decode(w.dir, i, pod); err != nil {
			return nil, err
		}
		if pod.Labels == nil {
			pod.Labels = map[string]string{}
		}
		pod.Labels["signature"] = fmt.Sprintf("signature-label-%d", i/max(o.SignatureBatchSize, 1))
	}
	if o.PersistentVolumeClaimTemplatePath != "" {
		pod.Spec.Volumes = []corev1.Volume{{Name: "vol", VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claimName(i)},
		}}}
	}
	return pod, nil
}

// basePod is upstream's makeBasePod in util.go.
func basePod() *corev1.Pod {
	asks := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("500Mi"),
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "pod-"},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "pause", Image: "registry.k8s.io/pause:3.10.2",
			Ports:     []corev1.ContainerPort{{ContainerPort: 80}},
			Resources: corev1.ResourceRequirements{Limits: asks, Requests: asks.DeepCopy()},
		}}},
	}
}

func (o *createPods) objects(w *Workload) ([]runtime.Object, error) {
	pod, err := o.pod(w, 0, max(o.total(), 1))
	if err != nil {
		return nil, err
	}
	all := []runtime.Object{pod}
	if o.PersistentVolumeClaimTemplatePath == "" {
		return all, nil
	}
	pv, pvc, err := o.volume(w, "test", 0)
	return append(all, pvc, pv), err
}

// deletePods deletes the pods of a namespace that have some labels, at a pace or all at once.
//
// Upstream: runDeletePodsOp in executor.go.
type deletePods struct {
	code
	Namespace            string
	LabelSelector        map[string]string
	SkipWaitToCompletion bool
	DeletePodsPerSecond  int
}

func (o *deletePods) run(ctx context.Context, e *executor, _ int) error {
	names := e.pods.names(o.Namespace, o.LabelSelector)
	remove := func() error {
		if o.DeletePodsPerSecond == 0 {
			return e.client.CoreV1().Pods(o.Namespace).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{
				LabelSelector: metav1.FormatLabelSelector(&metav1.LabelSelector{MatchLabels: o.LabelSelector}),
			})
		}
		return paced(ctx, len(names), o.DeletePodsPerSecond, func(i int) error {
			return e.client.CoreV1().Pods(o.Namespace).Delete(ctx, names[i], metav1.DeleteOptions{})
		})
	}
	if o.SkipWaitToCompletion {
		e.inBackground(ctx, remove)
		return nil
	}
	return remove()
}

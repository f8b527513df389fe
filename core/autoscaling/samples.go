package autoscaling

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Sample is the value of a metric for one pod, in thousandths of the metric's unit. Timestamp is the end
// of the Window over which it was taken.
//
// Upstream: PodMetric (metrics/interfaces.go).
type Sample struct {
	Timestamp time.Time
	Window    time.Duration
	Value     int64
}

// samples are the usage of a resource by the chosen pods, or by one container of each if it is named. A
// pod of which a container has none is left out.
//
// Upstream: GetResourceMetric, getPodMetrics and getContainerMetrics (metrics/client.go).
func (d *decision) samples(name corev1.ResourceName, container string) (map[string]Sample, error) {
	if d.in.UsageErr != nil {
		return nil, fmt.Errorf("unable to fetch metrics from resource metrics API: %w", d.in.UsageErr)
	}
	out := map[string]Sample{}
	seen := false
	for _, pod := range d.pods {
		usage, ok := d.in.Usage[pod.Name]
		if !ok {
			continue
		}
		seen = true
		if value, ok := usage.of(name, container); ok {
			out[pod.Name] = Sample{usage.Timestamp, usage.Window, value}
		}
	}
	if !seen {
		return nil, fmt.Errorf("no metrics returned from resource metrics API")
	}
	return out, nil
}

// of is the usage of a resource in thousandths, of all containers or of the one named.
func (u PodUsage) of(name corev1.ResourceName, container string) (int64, bool) {
	if container != "" {
		value, ok := u.Containers[container][name]
		return value.MilliValue(), ok
	}
	var total int64
	for _, usage := range u.Containers {
		value, ok := usage[name]
		if !ok {
			return 0, false
		}
		total += value.MilliValue()
	}
	return total, len(u.Containers) > 0
}

// podValues are the values of a Pods metric for the chosen pods.
//
// Upstream: GetRawMetric (metrics/client.go).
func (d *decision) podValues(measured Measured) (map[string]Sample, error) {
	if measured.Err != nil {
		return nil, fmt.Errorf("unable to fetch metrics from custom metrics API: %w", measured.Err)
	}
	out := map[string]Sample{}
	for _, pod := range d.pods {
		if value, ok := measured.Pods[pod.Name]; ok {
			out[pod.Name] = Sample{Value: value.MilliValue()}
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no metrics returned from custom metrics API")
	}
	return out, nil
}

// object is the value of an Object metric in thousandths.
//
// Upstream: GetObjectMetric (metrics/client.go).
func (m Measured) object() (int64, error) {
	if m.Err != nil {
		return 0, fmt.Errorf("unable to fetch metrics from custom metrics API: %w", m.Err)
	}
	if len(m.Values) == 0 {
		return 0, fmt.Errorf("no metrics returned from custom metrics API")
	}
	return m.Values[0].MilliValue(), nil
}

// external are the values of an External metric in thousandths.
//
// Upstream: GetExternalMetric (metrics/client.go).
func (m Measured) external() ([]int64, error) {
	if m.Err != nil {
		return nil, fmt.Errorf("unable to fetch metrics from external metrics API: %w", m.Err)
	}
	if len(m.Values) == 0 {
		return nil, fmt.Errorf("no metrics returned from external metrics API")
	}
	out := make([]int64, len(m.Values))
	for i, value := range m.Values {
		out[i] = value.MilliValue()
	}
	return out, nil
}

package events

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// samplesData is the data of SamplesType. Times and quantities stay text until they are checked, so
// that an error can name the field.
type samplesData struct {
	Nodes    []nodeData     `json:"nodes,omitempty"`
	Pods     []podData      `json:"pods,omitempty"`
	External []externalData `json:"external,omitempty"`
}

type nodeData struct {
	Name string `json:"name"`
	windowData
	Usage usageData `json:"usage"`
}

type podData struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	windowData
	Containers []containerData `json:"containers"`
}

type containerData struct {
	Name  string    `json:"name"`
	Usage usageData `json:"usage"`
}

type externalData struct {
	Namespace string            `json:"namespace,omitempty"`
	Name      string            `json:"name"`
	Labels    map[string]string `json:"labels,omitempty"`
	windowData
	Value quantityText `json:"value"`
}

type windowData struct {
	Time          string `json:"time"`
	WindowSeconds int64  `json:"windowSeconds,omitempty"`
}

type usageData struct {
	CPU    quantityText `json:"cpu"`
	Memory quantityText `json:"memory"`
}

// quantityText is a quantity as it came, a string or a number.
type quantityText string

// UnmarshalJSON takes the text as it is; quantity reads it.
func (q *quantityText) UnmarshalJSON(b []byte) error {
	*q = quantityText(strings.Trim(string(b), `"`))
	return nil
}

// data returns what Event sends.
func (s Samples) data() samplesData {
	var d samplesData
	for _, n := range s.Nodes {
		d.Nodes = append(d.Nodes, nodeData{Name: n.Name, windowData: n.Window.data(), Usage: n.Usage.data()})
	}
	for _, p := range s.Pods {
		pod := podData{Namespace: p.Namespace, Name: p.Name, windowData: p.data()}
		for _, c := range p.Containers {
			pod.Containers = append(pod.Containers, containerData{Name: c.Name, Usage: c.data()})
		}
		d.Pods = append(d.Pods, pod)
	}
	for _, x := range s.External {
		d.External = append(d.External, externalData{
			Namespace: x.Namespace, Name: x.Name, Labels: x.Labels, windowData: x.data(), Value: quantityText(x.Value.String()),
		})
	}
	return d
}

func (w Window) data() windowData {
	return windowData{Time: w.End.UTC().Format(time.RFC3339Nano), WindowSeconds: w.Seconds}
}

func (u Usage) data() usageData {
	return usageData{CPU: quantityText(u.CPU.String()), Memory: quantityText(u.Memory.String())}
}

// read checks the data and adds its samples to s.
func (d samplesData) read(s *Samples) error {
	root := field.NewPath("data")
	for i, n := range d.Nodes {
		sample, err := n.read(root.Child("nodes").Index(i))
		if err != nil {
			return err
		}
		s.Nodes = append(s.Nodes, sample)
	}
	for i, p := range d.Pods {
		sample, err := p.read(root.Child("pods").Index(i))
		if err != nil {
			return err
		}
		s.Pods = append(s.Pods, sample)
	}
	for i, x := range d.External {
		sample, err := x.read(root.Child("external").Index(i))
		if err != nil {
			return err
		}
		s.External = append(s.External, sample)
	}
	if n := s.Count(); n == 0 || n > MaxSamples {
		return invalid(root, fmt.Sprintf("has %d samples, want 1 to %d", n, MaxSamples))
	}
	return nil
}

func (n nodeData) read(at *field.Path) (NodeSample, error) {
	if err := checkNames(at.Child("name"), validation.IsDNS1123Subdomain(n.Name)); err != nil {
		return NodeSample{}, err
	}
	window, err := n.windowData.read(at, 1)
	if err != nil {
		return NodeSample{}, err
	}
	usage, err := n.Usage.read(at.Child("usage"))
	if err != nil {
		return NodeSample{}, err
	}
	return NodeSample{Name: n.Name, Window: window, Usage: usage}, nil
}

func (p podData) read(at *field.Path) (PodSample, error) {
	if err := checkNames(at.Child("namespace"), validation.IsDNS1123Label(p.Namespace)); err != nil {
		return PodSample{}, err
	}
	if err := checkNames(at.Child("name"), validation.IsDNS1123Subdomain(p.Name)); err != nil {
		return PodSample{}, err
	}
	window, err := p.windowData.read(at, 1)
	if err != nil {
		return PodSample{}, err
	}
	sample := PodSample{Namespace: p.Namespace, Name: p.Name, Window: window}
	if len(p.Containers) == 0 {
		return PodSample{}, invalid(at.Child("containers"), "is missing")
	}
	seen := map[string]bool{}
	for i, c := range p.Containers {
		at := at.Child("containers").Index(i)
		if err := checkNames(at.Child("name"), validation.IsDNS1123Label(c.Name)); err != nil {
			return PodSample{}, err
		}
		if seen[c.Name] {
			return PodSample{}, invalid(at.Child("name"), fmt.Sprintf("%.80q is there twice", c.Name))
		}
		seen[c.Name] = true
		usage, err := c.Usage.read(at.Child("usage"))
		if err != nil {
			return PodSample{}, err
		}
		sample.Containers = append(sample.Containers, ContainerSample{Name: c.Name, Usage: usage})
	}
	return sample, nil
}

func (x externalData) read(at *field.Path) (ExternalSample, error) {
	if x.Namespace != "" {
		if err := checkNames(at.Child("namespace"), validation.IsDNS1123Label(x.Namespace)); err != nil {
			return ExternalSample{}, err
		}
	}
	// It is a segment of a path in external.metrics.k8s.io.
	if x.Name == "" || len(x.Name) > maxNameBytes || strings.ContainsFunc(x.Name, isUnprintable) {
		return ExternalSample{}, invalid(at.Child("name"), fmt.Sprintf("%.80q is not 1 to %d printable ASCII characters", x.Name, maxNameBytes))
	}
	if err := checkNames(at.Child("name"), content.IsPathSegmentName(x.Name)); err != nil {
		return ExternalSample{}, err
	}
	for _, key := range slices.Sorted(maps.Keys(x.Labels)) {
		problems := append(validation.IsQualifiedName(key), validation.IsValidLabelValue(x.Labels[key])...)
		if err := checkNames(at.Child("labels"), problems); err != nil {
			return ExternalSample{}, err
		}
	}
	window, err := x.windowData.read(at, 0)
	if err != nil {
		return ExternalSample{}, err
	}
	value, err := x.Value.read(at.Child("value"))
	if err != nil {
		return ExternalSample{}, err
	}
	sample := ExternalSample{Namespace: x.Namespace, Name: x.Name, Window: window, Value: value}
	if len(x.Labels) > 0 {
		sample.Labels = x.Labels
	}
	return sample, nil
}

func isUnprintable(r rune) bool { return r <= ' ' || r > '~' }

func (w windowData) read(at *field.Path, least int64) (Window, error) {
	end, err := ParseTime(at.Child("time").String(), w.Time)
	if err != nil {
		return Window{}, err
	}
	if w.WindowSeconds < least || w.WindowSeconds > MaxWindowSeconds {
		return Window{}, invalid(at.Child("windowSeconds"), fmt.Sprintf("is %d, want %d to %d", w.WindowSeconds, least, MaxWindowSeconds))
	}
	return Window{End: end, Seconds: w.WindowSeconds}, nil
}

func (u usageData) read(at *field.Path) (Usage, error) {
	cpu, err := u.CPU.read(at.Child("cpu"))
	if err != nil {
		return Usage{}, err
	}
	memory, err := u.Memory.read(at.Child("memory"))
	if err != nil {
		return Usage{}, err
	}
	return Usage{CPU: cpu, Memory: memory}, nil
}

// Bounds of a quantity.
const (
	// maxQuantityBytes bounds the text. The longest that String writes of a value up to maxQuantity has
	// 26: 16 digits, 9 of a fraction and a point, and would be in nano at that.
	maxQuantityBytes = 32
	// maxQuantity is the largest value of which the thousandths, in which autoscalers count, fit in 63 bits.
	maxQuantity = 9_000_000_000_000_000
)

func (q quantityText) read(at *field.Path) (resource.Quantity, error) {
	refuse := func(why string) (resource.Quantity, error) {
		return resource.Quantity{}, invalid(at, fmt.Sprintf("%.80q %s", q, why))
	}
	// A long exponent would keep ParseQuantity busy for very long: no unit needs more than two digits.
	if _, exponent, ok := strings.Cut(strings.ToLower(string(q)), "e"); len(q) > maxQuantityBytes || ok && len(exponent) > len("+18") {
		return refuse("is too long for a quantity")
	}
	value, err := resource.ParseQuantity(string(q))
	switch {
	case err != nil:
		return refuse("is not a quantity")
	case value.Sign() < 0:
		return refuse("is negative")
	case value.CmpInt64(maxQuantity) > 0:
		return refuse(fmt.Sprintf("is more than %d", int64(maxQuantity)))
	}
	return value, nil
}

func checkNames(at *field.Path, problems []string) error {
	if len(problems) == 0 {
		return nil
	}
	return invalid(at, problems[0])
}

func invalid(at *field.Path, reason string) error {
	return &FieldError{Field: at.String(), Reason: reason}
}

package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/apis/core/validation"
)

// defaultPods is what a node takes that does not say how many pods it does.
//
// Upstream: SetDefaults_KubeletConfiguration in pkg/kubelet/apis/config/v1beta1/defaults.go.
const defaultPods = "110"

// defaultTemplateText says what defaultTemplate is.
const defaultTemplateText = "4 CPUs, 16Gi of memory, 100Gi of ephemeral storage, 110 pods, linux/amd64"

// defaultTemplate is the node that is added if nobody says which.
func defaultTemplate() *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "new", Labels: map[string]string{corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64"}},
		Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("16Gi"),
			corev1.ResourceEphemeralStorage: resource.MustParse("100Gi"), corev1.ResourcePods: resource.MustParse(defaultPods),
		}},
	}
}

// nodeTemplate reads the one Node of a file; "-" is standard input.
func nodeTemplate(stdin io.Reader, file string) (*corev1.Node, error) {
	if file == "" {
		return defaultTemplate(), nil
	}
	var template *corev1.Node
	err := eachDocument(stdin, file, func(where string, doc []byte) error {
		obj, kind, err := strictly.Decode(doc, nil, nil)
		if err != nil {
			return fmt.Errorf("%s: %w", where, located(doc, err))
		}
		node, ok := obj.(*corev1.Node)
		if !ok {
			return fmt.Errorf("%s: kind: a Node is wanted, and this is a %s", where, kind.Kind)
		}
		if template != nil {
			return fmt.Errorf("%s: only one Node is wanted", where)
		}
		if err := completeTemplate(node); err != nil {
			return fmt.Errorf("%s: Node %s: %w", where, node.Name, err)
		}
		template = node
		return nil
	})
	if err == nil && template == nil {
		err = fmt.Errorf("%s: there is no Node in it", file)
	}
	return template, err
}

// completeTemplate checks a node, and fills in what may be left out.
func completeTemplate(node *corev1.Node) error {
	legacyscheme.Scheme.Default(node)
	if node.Name == "" {
		node.Name = strings.TrimSuffix(node.GenerateName, "-")
	}
	if node.Name == "" {
		node.Name = "new"
	}
	if len(node.Status.Allocatable) == 0 {
		node.Status.Allocatable = node.Status.Capacity.DeepCopy()
	}
	path := field.NewPath("status", "allocatable")
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		if q, has := node.Status.Allocatable[name]; !has || q.Sign() <= 0 {
			return field.Required(path.Key(string(name)), "how much of it the node has, more than 0 (or in status.capacity)")
		}
	}
	if _, has := node.Status.Allocatable[corev1.ResourcePods]; !has {
		node.Status.Allocatable[corev1.ResourcePods] = resource.MustParse(defaultPods)
	}
	var internal core.Node
	if err := legacyscheme.Scheme.Convert(node.DeepCopy(), &internal, nil); err != nil {
		return err
	}
	var errs []error
	for _, e := range validation.ValidateNode(&internal) {
		errs = append(errs, e)
	}
	if len(errs) > 0 {
		return errors.New(joined(errs))
	}
	return nil
}

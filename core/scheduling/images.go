package scheduling

import (
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

const (
	mebibyte = 1024 * 1024
	// Sums of image sizes below leastImages score nothing; mostImages for each image scores the most. In bytes.
	leastImages, mostImages = 23 * mebibyte, 1000 * mebibyte
)

// imageNames lists the images that a pod's node must have, as nodes report them: one for each container and image volume.
//
// Upstream: sumImageScores in plugins/imagelocality/image_locality.go.
func imageNames(pod *corev1.Pod) []string {
	names := make([]string, 0, len(pod.Spec.InitContainers)+len(pod.Spec.Containers))
	for i := range pod.Spec.InitContainers {
		names = append(names, normalizedImage(pod.Spec.InitContainers[i].Image))
	}
	for i := range pod.Spec.Containers {
		names = append(names, normalizedImage(pod.Spec.Containers[i].Image))
	}
	for i := range pod.Spec.Volumes {
		if image := pod.Spec.Volumes[i].Image; image != nil {
			names = append(names, normalizedImage(image.Reference))
		}
	}
	return names
}

// normalizedImage is the name of an image with its tag, "latest" if it has none.
func normalizedImage(name string) string {
	if strings.LastIndex(name, ":") <= strings.LastIndex(name, "/") {
		return name + ":latest"
	}
	return name
}

// imagesOf are the sizes in bytes of a node's images by name, nil for none.
func imagesOf(node *corev1.Node) map[string]int64 {
	var sizes map[string]int64
	for i := range node.Status.Images {
		for _, name := range node.Status.Images[i].Names {
			if sizes == nil {
				sizes = map[string]int64{}
			}
			sizes[name] = node.Status.Images[i].SizeBytes
		}
	}
	return sizes
}

// setImages has a node have other images.
func (c *Cluster) setImages(n *nodeState, images map[string]int64) {
	if !maps.Equal(n.images, images) {
		c.journal.renew() // what an image is worth depends on how many nodes have it
	}
	c.countImages(n.images, -1)
	n.images = images
	c.countImages(images, 1)
}

// countImages keeps how many nodes have each image.
func (c *Cluster) countImages(images map[string]int64, by int) {
	for name := range images {
		if c.imageNodes[name] += by; c.imageNodes[name] == 0 {
			delete(c.imageNodes, name)
		}
	}
}

// imageLocality scores a node by the sizes of the pod's images that it has, each scaled by the part of all nodes that
// have it, so that pods do not crowd on the first node that has pulled an image.
//
// Upstream: plugins/imagelocality/image_locality.go, Score.
func (c *Cluster) imageLocality(images []string, n *nodeState) int64 {
	if len(n.images) == 0 || len(images) == 0 {
		return 0
	}
	var sum int64
	for _, name := range images {
		if size, ok := n.images[name]; ok {
			sum += int64(float64(size) * (float64(c.imageNodes[name]) / float64(c.known)))
		}
	}
	most := mostImages * int64(len(images))
	return maxScore * (min(max(sum, leastImages), most) - leastImages) / (most - leastImages)
}

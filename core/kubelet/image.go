package kubelet

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// reference is an image as a container runtime names it.
type reference struct{ registry, repository, tag string }

// parseImage fills in what an image's short name leaves out: docker.io, library/ and latest.
//
// Upstream: ParseNormalizedNamed of github.com/distribution/reference.
func parseImage(image string) reference {
	name, suffix := image, ""
	if at := strings.Index(name, "@"); at >= 0 {
		name, suffix = name[:at], name[at:]
	}
	if colon := strings.LastIndex(name, ":"); colon > strings.LastIndex(name, "/") {
		name, suffix = name[:colon], name[colon:]+suffix
	}
	if suffix == "" {
		suffix = ":latest"
	}
	registry, repository, found := strings.Cut(name, "/")
	if !found || !strings.ContainsAny(registry, ".:") && registry != "localhost" {
		registry, repository = "docker.io", name
	}
	if registry == "docker.io" && !strings.Contains(repository, "/") {
		repository = "library/" + repository
	}
	return reference{registry, repository, suffix}
}

func (r reference) String() string { return r.registry + "/" + r.repository + r.tag }

// id is the image by digest, as status.imageID shows it.
func (r reference) id() string {
	return fmt.Sprintf("%s/%s@sha256:%s", r.registry, r.repository, digest("image", r.String()))
}

// pullError is why the image can never be pulled, in containerd's words; empty for one that can.
// Everything can be but foo:non-existent and what lies in a registry under the top-level domain
// .invalid, which RFC 2606 keeps unresolvable.
func pullError(image string) string {
	r := parseImage(image)
	host, _, _ := strings.Cut(r.registry, ":")
	prefix := fmt.Sprintf("failed to pull and unpack image %q: failed to resolve reference %q: ", r, r)
	name := r.repository[strings.LastIndex(r.repository, "/")+1:] + r.tag
	switch {
	case strings.HasSuffix(host, ".invalid"):
		return fmt.Sprintf("%sfailed to do request: Head %q: dial tcp: lookup %s: no such host", prefix,
			fmt.Sprintf("https://%s/v2/%s/manifests/%s", r.registry, r.repository, strings.TrimLeft(r.tag, ":@")), host)
	case name == "foo:non-existent":
		return fmt.Sprintf("%s%s: not found", prefix, r)
	}
	return ""
}

// digest is 64 hexadecimal digits that depend on nothing but the parts.
func digest(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:])
}

package differential_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const documentPath = "../../docs/differential.md"

// covered is what upstream runs that a user's objects meet: each has a script.
var covered = []string{
	"Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job", "CronJob", "TTL after finished", "ReplicationController",
	"garbage collection", "custom kinds", "namespaces", "pod garbage collection", "node lifecycle", "node taints", "eviction",
	"PodDisruptionBudget", "evictions", "ResourceQuota", "LimitRange", "ServiceAccounts and tokens", "root CA",
	"cluster-role aggregation", "PV binding", "PV protection", "PVC protection", "classless volumes", "ephemeral volumes",
	"VolumeAttributesClass protection", "resource claims", "HPA", "EndpointSlice", "Endpoints", "mirroring",
	"Services ClusterIP/NodePort", "priority classes", "scheduling",
}

// about is a script's first two lines.
type about struct{ group, name, text, covers string }

func readAbouts(t *testing.T) []about {
	t.Helper()
	var out []about
	for _, group := range groups {
		paths, err := filepath.Glob(filepath.Join("testdata", group, "*.txt"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.SplitN(string(content), "\n", 3)
			text, isText := strings.CutPrefix(lines[0], "# ")
			covers, isCovers := strings.CutPrefix(lines[1], "# covers: ")
			if !isText || !isCovers {
				t.Fatalf("%s does not begin with what it is about and what it covers", path)
			}
			out = append(out, about{group, strings.TrimSuffix(filepath.Base(path), ".txt"), text, covers})
		}
	}
	return out
}

func TestEveryControllerHasAScript(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, a := range readAbouts(t) {
		for one := range strings.SplitSeq(a.covers, ", ") {
			if !slices.Contains(covered, one) {
				t.Errorf("%s covers %q, which is not in the list of controllers", a.name, one)
			}
			seen[one] = true
		}
	}
	for _, one := range covered {
		if !seen[one] {
			t.Errorf("no script covers %s", one)
		}
	}
}

func TestTheDocumentListsEveryScript(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile(documentPath)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range readAbouts(t) {
		if row := fmt.Sprintf("| `%s/%s` | %s | %s |\n", a.group, a.name, a.text, a.covers); !strings.Contains(string(content), row) {
			t.Errorf("docs/differential.md lacks the row\n%s", row)
		}
	}
	for _, d := range readDifferences(t) {
		if !strings.Contains(string(content), d.reason) {
			t.Errorf("docs/differential.md lacks the reason %q", d.reason)
		}
	}
}

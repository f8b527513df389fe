// Package autoscaling_test posts metric samples as CloudEvents to a `zeroplane serve` by HTTP, and looks with kubectl at
// what comes of them.
//
//	curve_test.go   a load that rises and falls takes a Deployment along
//	samples_test.go samples that are bad, and far too many
//	top_test.go     kubectl top
package autoscaling_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/client-go/rest"

	"github.com/zeroplane/zeroplane/events"
	"github.com/zeroplane/zeroplane/tests/local"
)

const (
	nodes     = 3
	namespace = "default"
	// waitTimeout bounds every wait.
	waitTimeout = time.Minute
)

// world is a server, and its admin's kubectl and HTTP client.
type world struct {
	*local.Server
	client *http.Client
	// sent counts requests, so that they take turns in how events are sent.
	sent int
}

func start(t *testing.T) *world {
	t.Helper()
	w := &world{Server: local.Start(t, local.Options{Dir: t.TempDir(), Nodes: nodes})}
	var err error
	if w.client, err = rest.HTTPClientFor(w.Config); err != nil {
		t.Fatal(err)
	}
	w.WaitForNodes(t)
	return w
}

// kubectl runs kubectl and returns what it prints, and on standard error.
func (w *world) kubectl(t *testing.T, arguments ...string) (string, string) {
	t.Helper()
	r := local.Run(t, append([]string{"kubectl", "--kubeconfig", w.Kubeconfig}, arguments...)...)
	return strings.TrimSpace(r.Stdout), strings.TrimSpace(r.Stderr)
}

// apply gives kubectl a manifest.
func (w *world) apply(t *testing.T, manifest string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "manifest.yaml")
	if err := os.WriteFile(file, []byte(manifest), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, problem := w.kubectl(t, "apply", "-f", file); problem != "" {
		t.Fatalf("%s\n%s", out, problem)
	}
}

// send posts an event, in the binary, the structured and the batch mode by turns, and returns the answer.
func (w *world) send(t *testing.T, e cloudevents.Event) (int, string) {
	t.Helper()
	w.sent++
	header := http.Header{}
	var body []byte
	var err error
	switch w.sent % 3 {
	case 0:
		header.Set("Content-Type", cloudevents.ApplicationJSON)
		header.Set("ce-specversion", e.SpecVersion())
		header.Set("ce-id", e.ID())
		header.Set("ce-type", e.Type())
		header.Set("ce-source", e.Source())
		header.Set("ce-subject", e.Subject())
		header.Set("ce-time", e.Time().Format(time.RFC3339Nano))
		for name, value := range e.Extensions() {
			header.Set("ce-"+name, fmt.Sprint(value))
		}
		body = e.Data()
	case 1:
		header.Set("Content-Type", cloudevents.ApplicationCloudEventsJSON)
		body, err = json.Marshal(e)
	default:
		header.Set("Content-Type", cloudevents.ApplicationCloudEventsBatchJSON)
		body, err = json.Marshal([]cloudevents.Event{e})
	}
	if err != nil {
		t.Fatal(err)
	}
	return w.post(t, w.client, header, body)
}

func (w *world) post(t *testing.T, client *http.Client, header http.Header, body []byte) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.Config.Host+"/events", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(answer)
}

// report is an event with samples that were made now.
func report(change func(*events.Samples)) events.Samples {
	s := events.Samples{Cluster: namespace, Reporter: "agent", Time: time.Now()}
	change(&s)
	return s
}

// used are the usage of a container: millicores, and some memory.
func used(millicores int64) events.Usage {
	return events.Usage{CPU: *resource.NewMilliQuantity(millicores, resource.DecimalSI), Memory: resource.MustParse("64Mi")}
}

// ofPod is a sample of the pod's one container over the last second.
func ofPod(name string, millicores int64) events.PodSample {
	return events.PodSample{
		Namespace: namespace, Name: name, Window: events.Window{End: time.Now(), Seconds: 1},
		Containers: []events.ContainerSample{{Name: "web", Usage: used(millicores)}},
	}
}

package server_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	cloudevents "github.com/cloudevents/sdk-go/v2"

	"github.com/zeroplane/zeroplane/adapters/webhook"
	"github.com/zeroplane/zeroplane/tests/local"
)

// TestRefusedEventsAreManagedWithCommands sends two malformed events, and lists, shows, replays and drops them.
func TestRefusedEventsAreManagedWithCommands(t *testing.T) {
	s := local.Start(t, local.Options{Dir: t.TempDir()})
	zeroplane := func(code int, arguments ...string) local.Result {
		t.Helper()
		got := local.Run(t, append(append([]string{"events"}, arguments...), "--kubeconfig="+s.Kubeconfig)...)
		if got.Code != code {
			t.Fatalf("zeroplane events %q: exit code %d, want %d\n%s%s", arguments, got.Code, code, got.Stdout, got.Stderr)
		}
		return got
	}
	if got := zeroplane(0, "list"); got.Stdout != "No dead letters.\n" {
		t.Errorf("of none, list prints %q", got.Stdout)
	}
	for _, body := range []string{"hello\x1b[31m", `{"specversion":"1.0","id":"1","source":"/clusters/default","type":"dev.zeroplane.timer.v1"}`} {
		code := 0
		s.Client.CoreV1().RESTClient().Post().AbsPath("/events").SetHeader("Content-Type", cloudevents.ApplicationCloudEventsJSON).
			Body([]byte(body)).Do(t.Context()).StatusCode(&code)
		if code != http.StatusBadRequest {
			t.Fatalf("%q: %d", body, code)
		}
	}
	var list webhook.LetterList
	if err := json.Unmarshal([]byte(zeroplane(0, "list", "-o", "json").Stdout), &list); err != nil || len(list.Items) != 2 {
		t.Fatalf("list -o json: %+v, %v", list, err)
	}
	bell, text := list.Items[0].ID, list.Items[1].ID
	if got := zeroplane(0, "list").Stdout; !strings.Contains(got, bell+" ") || !strings.Contains(got, "time: is missing") {
		t.Errorf("list prints\n%s", got)
	}
	if got := zeroplane(0, "list", "-o", "wide").Stdout; !strings.Contains(got, "webhook") || !strings.Contains(got, "/clusters/default") {
		t.Errorf("list -o wide prints\n%s", got)
	}
	if got := zeroplane(0, "show", text).Stdout; !strings.Contains(got, "hello [31m") {
		t.Errorf("show prints %q", got)
	}
	if got := zeroplane(1, "replay", "--all"); !strings.Contains(got.Stderr, "2 of 2 events were not taken") || !strings.Contains(got.Stderr, "stays among the dead letters") {
		t.Errorf("replaying them: %+v", got)
	}
	for _, arguments := range [][]string{{"replay"}, {"drop"}, {"drop", bell, "--all"}} {
		if got := zeroplane(1, arguments...); !strings.Contains(got.Stderr, "give the IDs of events, or --all") {
			t.Errorf("%q: %+v", arguments, got)
		}
	}
	if got := zeroplane(0, "drop", bell); got.Stdout != "event "+bell+" dropped\n" {
		t.Errorf("dropping one: %+v", got)
	}
	for _, arguments := range [][]string{{"show", bell}, {"replay", bell}, {"drop", bell}} {
		if got := zeroplane(1, arguments...); !strings.Contains(got.Stderr, "not found") {
			t.Errorf("%q: %+v", arguments, got)
		}
	}
	if got := zeroplane(1, "list", "-o", "yaml"); !strings.Contains(got.Stderr, "-o must be json, wide or left out") {
		t.Errorf("-o yaml: %+v", got)
	}
	zeroplane(0, "drop", "--all")
	if got := zeroplane(0, "list"); got.Stdout != "No dead letters.\n" {
		t.Errorf("in the end, list prints %q", got.Stdout)
	}
}

package requests_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"k8s.io/client-go/rest"
)

const (
	// requestLimit bounds one request.
	requestLimit = 30 * time.Second
	// untilLimit bounds how long a request is repeated until its answer is as the script says.
	untilLimit = 30 * time.Second
	// untilPause is the pause between two of those.
	untilPause = 20 * time.Millisecond
	// maxAnswer is how much of an answer is read, in bytes.
	maxAnswer = 16 << 20
	// agent names the client, and so the manager of fields.
	agent = "requests/1"
)

// script is one file being run, in a namespace of its own that is named after the file.
type script struct {
	name  string
	known *differences
	// admin has the admin's credential, bare none.
	admin, bare *http.Client
	token       string
	sent        int
	failures    []string
	// answers are the bodies of earlier requests, by their names.
	answers map[string]any
	// made are names that the server made, and what stands for them.
	made map[string]string
}

func newScript(t *testing.T, name string, known *differences) *script {
	t.Helper()
	s := &script{
		name: name, known: known, token: cluster.BearerToken, answers: map[string]any{}, made: map[string]string{},
		admin: newClient(t, cluster), bare: newClient(t, rest.AnonymousClientConfig(cluster)),
	}
	t.Cleanup(s.admin.CloseIdleConnections)
	t.Cleanup(s.bare.CloseIdleConnections)
	// What controllers make in a namespace is made here where there are none, and is there before the first request.
	s.ensure(t, "/api/v1/namespaces", "$NS", "{apiVersion: v1, kind: Namespace, metadata: {name: $NS}}")
	s.ensure(t, "/api/v1/namespaces/$NS/serviceaccounts", "default", "{apiVersion: v1, kind: ServiceAccount, metadata: {name: default}}")
	s.ensure(t, "/api/v1/namespaces/$NS/configmaps", "kube-root-ca.crt", "{apiVersion: v1, kind: ConfigMap, metadata: {name: kube-root-ca.crt}}")
	return s
}

// ensure makes an object, if nobody has, and waits until it is there.
func (s *script) ensure(t *testing.T, path, name, body string) {
	t.Helper()
	if _, err := s.send(t.Context(), "POST "+path+"\n\n"+body, 0); err != nil {
		t.Fatal(err)
	}
	there := func(r *received) bool { return r.status == http.StatusOK }
	if _, err := s.repeat(t.Context(), "GET "+path+"/"+name, 0, there); err != nil {
		t.Fatal(err)
	}
}

// newClient returns a client that sees answers as they are sent.
func newClient(t *testing.T, config *rest.Config) *http.Client {
	t.Helper()
	of, err := rest.TLSConfigFor(config)
	if err != nil {
		t.Fatal(err)
	}
	if of == nil {
		of = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return &http.Client{
		Transport:     &http.Transport{TLSClientConfig: of, DisableCompression: true, ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// step sends one request. The directive is its name, and the input METHOD PATH, headers, an empty line and a body.
func (s *script) step(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	s.sent++
	if _, again := s.answers[d.Cmd]; again {
		d.Fatalf(t, "two requests are named %s", d.Cmd)
	}
	var events int
	if d.HasArg("events") {
		d.ScanArgs(t, "events", &events)
	}
	r, err := s.repeat(t.Context(), d.Input, events, s.until(t, d))
	if err != nil {
		d.Fatalf(t, "%v", err)
	}
	s.answers[d.Cmd] = r.value()
	got := s.normalise(r)
	if isRecording() {
		return got.text()
	}
	want := parseAnswer(t, d.Expected)
	var reasons []string
	if isUpstream() {
		reasons = want.differences(got, nil)
	} else {
		reasons = want.differences(got, s.known.of(s.name+"/"+d.Cmd))
	}
	if len(reasons) > 0 { // told at the end: a script that has failed is not gone on with
		s.failures = append(s.failures, fmt.Sprintf("%s: %s: (-upstream +got)\n%s", d.Pos, d.Cmd, strings.Join(reasons, "\n")))
	}
	return d.Expected
}

// until is what the argument until=(PATH,VALUE) waits for, or until=STATUS.
func (s *script) until(t *testing.T, d *datadriven.TestData) func(*received) bool {
	t.Helper()
	for _, a := range d.CmdArgs {
		if a.Key != "until" {
			continue
		}
		if len(a.Vals) == 1 {
			return func(r *received) bool { return strconv.Itoa(r.status) == a.Vals[0] }
		}
		return func(r *received) bool {
			v, err := lookUp(r.value(), a.Vals[0])
			return err == nil && fmt.Sprint(v) == a.Vals[1]
		}
	}
	return func(*received) bool { return true }
}

// repeat sends a request until the answer is as it should be.
func (s *script) repeat(ctx context.Context, text string, events int, done func(*received) bool) (*received, error) {
	for deadline := time.Now().Add(untilLimit); ; time.Sleep(untilPause) {
		r, err := s.send(ctx, text, events)
		if err != nil || done(r) {
			return r, err
		}
		if time.Now().After(deadline) {
			return r, fmt.Errorf("still answered with %d: %s", r.status, r.body)
		}
	}
}

// send sends one request, with the admin's credential unless it has another: "Authorization: -" is none. Of a watch it reads so many events.
func (s *script) send(ctx context.Context, text string, events int) (*received, error) {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	request, err := s.parse(ctx, text)
	if err != nil {
		return nil, err
	}
	client := s.admin
	switch authorization := request.Header.Get("Authorization"); authorization {
	case "":
		if s.token != "" {
			request.Header.Set("Authorization", "Bearer "+s.token)
		}
	case "-":
		request.Header.Del("Authorization")
		client = s.bare
	default:
		client = s.bare
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	r := &received{status: response.StatusCode, header: response.Header}
	if events == 0 {
		r.body, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer))
		return r, err
	}
	lines := bufio.NewReader(response.Body)
	for range events {
		line, err := lines.ReadBytes('\n')
		r.body = append(r.body, line...)
		if err != nil {
			return r, fmt.Errorf("reading events after %s: %w", r.body, err)
		}
	}
	return r, nil
}

func (s *script) parse(ctx context.Context, text string) (*http.Request, error) {
	text, err := s.expand(text)
	if err != nil {
		return nil, err
	}
	head, body, _ := strings.Cut(text, "\n\n")
	lines := strings.Split(strings.TrimSpace(head), "\n")
	method, path, ok := strings.Cut(lines[0], " ")
	if !ok {
		return nil, fmt.Errorf("cannot read %q: want METHOD PATH", lines[0])
	}
	request, err := http.NewRequestWithContext(ctx, method, cluster.Host+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("User-Agent", agent)
	if body != "" {
		request.Header.Set("Content-Type", "application/yaml")
		if json.Valid([]byte(body)) {
			request.Header.Set("Content-Type", "application/json")
		}
	}
	for _, line := range lines[1:] {
		name, value, ok := strings.Cut(line, ": ")
		if !ok {
			return nil, fmt.Errorf("cannot read header %q", line)
		}
		if name == "Content-Type" || request.Header.Get(name) == "" {
			request.Header.Del(name)
		}
		if name != "Content-Type" || value != "-" {
			request.Header.Add(name, value)
		}
	}
	return request, nil
}

// reference is ${NAME.PATH}: a field of an earlier answer.
var reference = regexp.MustCompile(`\$\{([^}.]+)\.([^}]+)\}`)

// expand replaces $NS by the namespace, and references.
func (s *script) expand(text string) (string, error) {
	var errs []error
	text = reference.ReplaceAllStringFunc(text, func(of string) string {
		parts := reference.FindStringSubmatch(of)
		v, err := lookUp(s.answers[parts[1]], parts[2])
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", of, err))
		}
		return fmt.Sprint(v)
	})
	return strings.ReplaceAll(text, "$NS", s.name), errors.Join(errs...)
}

// lookUp returns what is at a path like status.conditions.0.type.
func lookUp(v any, path string) (any, error) {
	for part := range strings.SplitSeq(path, ".") {
		switch in := v.(type) {
		case map[string]any:
			v = in[part]
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i < 0 || i >= len(in) {
				return nil, fmt.Errorf("no element %s of %s", part, path)
			}
			v = in[i]
		default:
			return nil, fmt.Errorf("nothing at %s of %s", part, path)
		}
	}
	if v == nil {
		return nil, fmt.Errorf("nothing at %s", path)
	}
	return v, nil
}

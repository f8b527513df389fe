package kubectl_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"k8s.io/client-go/rest"
)

// maxAnswer is how much of an answer a scenario can print, in bytes.
const maxAnswer = 1 << 20

// http sends one request and gives the status line and the body, JSON indented. The input is METHOD PATH,
// headers, an empty line and a body; environment variables are expanded in all but the body. The request
// carries the admin's credential, or with token=FILE the token in a file of the scenario, or with anonymous
// none.
func (s *scenario) http(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	config := rest.CopyConfig(s.config)
	if d.HasArg("token") {
		var file string
		d.ScanArgs(t, "token", &file)
		token, err := os.ReadFile(filepath.Join(s.dir, file))
		if err != nil {
			d.Fatalf(t, "%v", err)
		}
		config = rest.AnonymousClientConfig(s.config)
		config.BearerToken = strings.TrimSpace(string(token))
	} else if d.HasArg("anonymous") {
		config = rest.AnonymousClientConfig(s.config)
	}
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	request, err := s.parseRequest(ctx, d.Input)
	if err != nil {
		d.Fatalf(t, "%v", err)
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		d.Fatalf(t, "%v", err)
	}
	response, err := client.Do(request)
	if err != nil {
		return s.normalize.text(err.Error() + "\n")
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		d.Fatalf(t, "%v", err)
	}
	var indented bytes.Buffer
	if json.Indent(&indented, body, "", "  ") == nil {
		body = indented.Bytes()
	}
	return s.normalize.text(fmt.Sprintf("%s\n%s\n", response.Status, bytes.TrimSpace(body)))
}

func (s *scenario) parseRequest(ctx context.Context, input string) (*http.Request, error) {
	head, body, _ := strings.Cut(input, "\n\n")
	lines := bufio.NewScanner(strings.NewReader(os.Expand(head, s.variable)))
	if !lines.Scan() {
		return nil, fmt.Errorf("a request needs METHOD PATH")
	}
	method, path, ok := strings.Cut(lines.Text(), " ")
	if !ok {
		return nil, fmt.Errorf("a request needs METHOD PATH, not %q", lines.Text())
	}
	request, err := http.NewRequestWithContext(ctx, method, s.config.Host+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		request.Header.Set(name, strings.TrimSpace(value))
	}
	return request, lines.Err()
}

// variable looks a name up in the scenario's environment, where the last setting counts.
func (s *scenario) variable(name string) string {
	for _, v := range slices.Backward(s.environ) {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}

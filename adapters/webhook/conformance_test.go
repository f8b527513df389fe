package webhook

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"strings"
	"testing"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
)

// scenario is one of a feature file, with its placeholders replaced.
type scenario struct {
	name       string
	request    string
	attributes map[string]string
	data       string
}

// readFeature reads the scenarios of a feature file. It knows no more of the language than the file has, and fails at
// any step that it does not know.
func readFeature(t *testing.T, file string) []scenario {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all []scenario
	for _, part := range strings.Split(string(text), "Scenario Outline: ")[1:] {
		body, examples, ok := strings.Cut(part, "Examples:")
		if !ok {
			t.Fatalf("no examples of %.40q", part)
		}
		rows := cellsOf(examples)
		for _, row := range rows[1:] {
			filled := body
			for i, name := range rows[0] {
				filled = strings.ReplaceAll(filled, "<"+name+">", row[i])
			}
			all = append(all, readScenario(t, filled))
		}
	}
	return all
}

// cellsOf returns the cells of a table's rows.
func cellsOf(text string) (rows [][]string) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			continue
		}
		var cells []string
		for cell := range strings.SplitSeq(strings.Trim(line, "|"), "|") {
			cells = append(cells, strings.TrimSpace(cell))
		}
		rows = append(rows, cells)
	}
	return rows
}

func readScenario(t *testing.T, text string) scenario {
	t.Helper()
	name, rest, _ := strings.Cut(text, "\n")
	s := scenario{name: strings.TrimSpace(name), attributes: map[string]string{}}
	lines := bufio.NewScanner(strings.NewReader(rest))
	var doc *string
	indent, inside := 0, false
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		switch {
		case line == `"""`:
			indent, inside = strings.Index(lines.Text(), `"""`), !inside
		case inside:
			*doc += lines.Text()[min(indent, len(lines.Text())):] + "\n"
		case line == "", strings.HasPrefix(line, "|"):
		case line == "Given an HTTP request":
			doc = &s.request
		case line == "When parsed as HTTP request", line == "Then the attributes are:":
		case line == "And the data is equal to the following JSON:":
			doc = &s.data
		default:
			t.Fatalf("%s: a step that is not known: %s", s.name, line)
		}
	}
	_, attributes, _ := strings.Cut(rest, "Then the attributes are:")
	attributes, _, _ = strings.Cut(attributes, `"""`)
	for _, row := range cellsOf(attributes)[1:] {
		s.attributes[row[0]] = row[1]
	}
	return s
}

// TestTheScenariosOfTheConformanceSuitePass sends the requests of the conformance suite's HTTP binding over a connection as
// they are written there.
func TestTheScenariosOfTheConformanceSuitePass(t *testing.T) {
	all := readFeature(t, "testdata/http-protocol-binding.feature")
	if len(all) != 4 {
		t.Fatalf("%d scenarios were read of 4", len(all))
	}
	for _, c := range all {
		t.Run(c.name, func(t *testing.T) {
			s := newSink()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				s.ServeHTTP(w, req.WithContext(request.WithUser(req.Context(), &user.DefaultInfo{Name: "sender"})))
			}))
			defer server.Close()
			if answer := sendRaw(t, server.Listener.Addr().String(), c.request); !strings.HasPrefix(answer, "HTTP/1.1 202 ") {
				t.Fatalf("the answer is %s", answer)
			}
			if len(s.heard) != 1 {
				t.Fatalf("%d events were heard", len(s.heard))
			}
			e := s.heard[0]
			for key, want := range c.attributes {
				if got := attribute(e, key); got != want {
					t.Errorf("%s is %q, want %q", key, got, want)
				}
			}
			var got, want any
			if err := json.Unmarshal(e.Data(), &got); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(c.data), &want); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("the data is %v, want %v", got, want)
			}
		})
	}
}

// attribute returns an attribute as it is written.
func attribute(e cloudevents.Event, key string) string {
	wire, _ := json.Marshal(e)
	var all map[string]any
	_ = json.Unmarshal(wire, &all)
	return fmt.Sprint(all[key])
}

func sendRaw(t *testing.T, address, text string) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	head, body, _ := strings.Cut(text, "\n\n")
	raw := strings.ReplaceAll(head, "\n", "\r\n") + "\r\nConnection: close\r\n\r\n" + strings.TrimSuffix(body, "\n")
	if _, err := io.WriteString(conn, raw); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer)
}

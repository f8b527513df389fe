package requests_test

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

// received is an answer as it came.
type received struct {
	status int
	header http.Header
	body   []byte
}

// known decodes what is answered in protobuf.
var known = func() serializer.CodecFactory {
	s := runtime.NewScheme()
	utilruntime.Must(scheme.AddToScheme(s))
	utilruntime.Must(metav1.AddMetaToScheme(s))
	return serializer.NewCodecFactory(s)
}()

// value is the body, or the list of values of a stream; nil if it is neither. Protobuf and YAML are decoded.
func (r *received) value() any {
	body := r.body
	if r.header.Get("Content-Type") == "application/vnd.kubernetes.protobuf" {
		obj, _, err := known.UniversalDeserializer().Decode(body, nil, nil)
		if err != nil {
			return nil
		}
		if body, err = json.Marshal(obj); err != nil {
			return nil
		}
	}
	if r.header.Get("Content-Type") == "application/yaml" {
		var err error
		if body, err = yaml.YAMLToJSON(body); err != nil {
			return nil
		}
	}
	var values []any
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	for {
		var v any
		if err := d.Decode(&v); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil
		}
		values = append(values, v)
	}
	if len(values) == 1 && !r.isStream() {
		return values[0]
	}
	if len(values) > 0 {
		return values
	}
	return nil
}

// isStream reports whether the body is a watch's.
func (r *received) isStream() bool {
	var event struct{ Type, Object any }
	return json.NewDecoder(bytes.NewReader(r.body)).Decode(&event) == nil && event.Type != nil && event.Object != nil
}

// answer is one made equal.
type answer struct {
	status string
	header map[string]string
	body   any
}

// usual headers are not written down if they are so, and are with a "-" if they are missing.
var usual = map[string]string{
	"Audit-Id":                          "UID",
	"Cache-Control":                     "no-cache, private",
	"Content-Type":                      "application/json",
	"X-Kubernetes-Pf-Flowschema-Uid":    "UID",
	"X-Kubernetes-Pf-Prioritylevel-Uid": "UID",
}

// separator of head and body.
const separator = "---"

func (a answer) text() string {
	out := []string{a.status}
	for _, name := range slices.Sorted(maps.Keys(a.header)) {
		out = append(out, name+": "+a.header[name])
	}
	if a.body != nil {
		body, err := yaml.Marshal(a.body)
		if err != nil {
			return err.Error()
		}
		out = append(out, separator, strings.TrimSuffix(string(body), "\n"))
	}
	return strings.Join(out, "\n") + "\n"
}

func parseAnswer(t *testing.T, text string) answer {
	t.Helper()
	head, body, _ := strings.Cut(text, "\n"+separator+"\n")
	lines := strings.Split(strings.TrimSpace(head), "\n")
	a := answer{status: lines[0], header: map[string]string{}}
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ": ")
		a.header[name] = value
	}
	if err := yaml.Unmarshal([]byte(body), &a.body); err != nil {
		t.Fatal(err)
	}
	return a
}

// differences of two answers, without those that are known.
func (a answer) differences(got answer, expected []*difference) []string {
	var out []string
	again, err := yaml.Marshal(got.body)
	if err != nil {
		return []string{err.Error()}
	}
	got.body = nil
	if err := yaml.Unmarshal(again, &got.body); err != nil {
		return []string{err.Error()}
	}
	for _, d := range expected {
		without, gotWithout := d.leaveOut(a), d.leaveOut(got)
		if d.isOf(a, got) {
			d.found = true
		}
		a, got = without, gotWithout
	}
	if a.status != got.status {
		out = append(out, "-"+a.status, "+"+got.status)
	}
	if diff := gocmp.Diff(a.header, got.header); diff != "" {
		out = append(out, diff)
	}
	if diff := gocmp.Diff(a.body, got.body); diff != "" {
		out = append(out, diff)
	}
	return out
}

// ignored headers say nothing of the answer.
var ignored = []string{"Date", "Content-Length", "Last-Modified"}

// normalise makes equal what differs from run to run.
func (s *script) normalise(r *received) answer {
	a := answer{status: fmt.Sprintf("%d %s", r.status, http.StatusText(r.status)), header: map[string]string{}}
	for name, values := range r.header {
		if value := s.normaliseText(strings.Join(values, "; ")); !slices.Contains(ignored, name) && value != usual[name] {
			a.header[name] = value
		}
	}
	for name := range usual {
		if r.header.Get(name) == "" {
			a.header[name] = "-"
		}
	}
	v := r.value()
	if v == nil {
		if len(r.body) > 0 {
			a.body = s.normaliseText(string(r.body))
		}
		return a
	}
	s.noteNames(v)
	a.body = s.normaliseValue("", v)
	return a
}

// noteNames notes the names that the server made.
func (s *script) noteNames(v any) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			s.noteNames(e)
		}
	case map[string]any:
		name, _ := v["name"].(string)
		prefix, _ := v["generateName"].(string)
		if prefix != "" && name != "" {
			s.made[name] = prefix + "xxxxx"
		}
		for _, e := range v {
			s.noteNames(e)
		}
	}
}

func (s *script) normaliseValue(key string, v any) any {
	switch v := v.(type) {
	case []any:
		out := make([]any, 0, len(v))
		for _, e := range v {
			out = append(out, s.normaliseValue(key, e))
		}
		if key == "nonResourceRules" || key == "resourceRules" {
			slices.SortFunc(out, func(a, b any) int { return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
		}
		return out
	case map[string]any:
		if key == "fieldsV1" {
			text, err := json.Marshal(v)
			if err != nil {
				return err.Error()
			}
			return string(text)
		}
		out := map[string]any{}
		for k, e := range v {
			out[s.normaliseText(k)] = s.normaliseValue(k, e)
		}
		return out
	case string:
		return s.normaliseField(key, v)
	case json.Number:
		if n, err := v.Int64(); err == nil && n != 0 && strings.HasSuffix(strings.ToLower(key), "nodeport") {
			return "PORT"
		}
		return v
	}
	return v
}

func (s *script) normaliseField(key, v string) any {
	switch key {
	case "resourceVersion", "resourceVersionMatch":
		if _, err := strconv.Atoi(v); err == nil && v != "0" {
			return "REV"
		}
	case "cells":
		if age.MatchString(v) {
			return "AGE"
		}
	case "continue":
		if v != "" {
			return "CONTINUE"
		}
	}
	return s.normaliseText(v)
}

// age is how long ago something was, in a table.
var age = regexp.MustCompile(`^(\d+[smhd])+$`)

// patterns are what differs from run to run wherever it stands.
var patterns = []struct {
	pattern     *regexp.Regexp
	replacement string
}{
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "UID"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)`), "TIME"},
	{regexp.MustCompile(`(current: |in record \(|"resourceVersion\\*":\\*")\d+`), "${1}REV"},
	{regexp.MustCompile(`\?hash=[0-9A-F]+`), "?hash=HASH"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+|localhost:\d+|192\.0\.2\.1:\d+`), "ADDRESS"},
	{regexp.MustCompile(`X509SHA256=[0-9a-f]+`), "X509SHA256=HASH"},
	{regexp.MustCompile(`(80:|Invalid value: )3[0-2]\d{3}\b`), "${1}PORT"},
	{regexp.MustCompile(`kube-api-access-[a-z0-9]{5}`), "kube-api-access-xxxxx"},
	{regexp.MustCompile(`\b10\.(9[6-9]|10\d|11[01])\.\d+\.\d+\b`), "IP"},
}

var jwt = regexp.MustCompile(`eyJ[A-Za-z0-9_-]+\.(eyJ[A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+`)

// claimTimes are the times of a token.
var claimTimes = regexp.MustCompile(`"(exp|iat|nbf|warnafter)":\d+`)

func (s *script) normaliseText(text string) string {
	text = jwt.ReplaceAllStringFunc(text, func(token string) string {
		claims, err := base64.RawURLEncoding.DecodeString(jwt.FindStringSubmatch(token)[1])
		if err != nil {
			return "TOKEN " + err.Error()
		}
		return "TOKEN " + claimTimes.ReplaceAllString(string(claims), `"$1":TIME`)
	})
	for _, name := range slices.Sorted(maps.Keys(s.made)) {
		text = strings.ReplaceAll(text, name, s.made[name])
	}
	for _, p := range patterns {
		text = p.pattern.ReplaceAllString(text, p.replacement)
	}
	return text
}

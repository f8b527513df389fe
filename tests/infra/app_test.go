package infra

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
	"time"
)

// hostFile is the part of host.json that is used here, as the schema of version 2.0 has it. The custom handler's
// properties are those of the host's HttpWorkerOptions.
type hostFile struct {
	Version         string `json:"version"`
	FunctionTimeout string `json:"functionTimeout"`
	CustomHandler   struct {
		Description struct {
			DefaultExecutablePath string   `json:"defaultExecutablePath"`
			Arguments             []string `json:"arguments"`
		} `json:"description"`
		EnableProxyingHTTPRequest bool `json:"enableProxyingHttpRequest"`
	} `json:"customHandler"`
	ExtensionBundle struct {
		ID      string `json:"id"`
		Version string `json:"version"`
	} `json:"extensionBundle"`
	Extensions struct {
		HTTP struct {
			RoutePrefix             *string `json:"routePrefix"`
			MaxConcurrentRequests   int     `json:"maxConcurrentRequests"`
			MaxOutstandingRequests  int     `json:"maxOutstandingRequests"`
			DynamicThrottlesEnabled bool    `json:"dynamicThrottlesEnabled"`
		} `json:"http"`
		Queues struct {
			BatchSize          int    `json:"batchSize"`
			NewBatchThreshold  int    `json:"newBatchThreshold"`
			MaxPollingInterval string `json:"maxPollingInterval"`
			VisibilityTimeout  string `json:"visibilityTimeout"`
			MaxDequeueCount    int    `json:"maxDequeueCount"`
			MessageEncoding    string `json:"messageEncoding"`
		} `json:"queues"`
	} `json:"extensions"`
	Logging struct {
		FileLoggingMode     string            `json:"fileLoggingMode"`
		LogLevel            map[string]string `json:"logLevel"`
		ApplicationInsights struct {
			EnableLiveMetrics bool `json:"enableLiveMetrics"`
			SamplingSettings  struct {
				IsEnabled                  bool    `json:"isEnabled"`
				MaxTelemetryItemsPerSecond float64 `json:"maxTelemetryItemsPerSecond"`
				ExcludedTypes              string  `json:"excludedTypes"`
			} `json:"samplingSettings"`
		} `json:"applicationInsights"`
	} `json:"logging"`
}

// frontEndCut is after what Azure's front end ends an HTTP answer.
const frontEndCut = 230 * time.Second

// checkHost finds what is wrong with host.json.
func checkHost(fsys fs.FS) []string {
	var found []string
	var h hostFile
	if err := strict(read(fsys, hostJSON), &h); err != nil {
		return []string{hostJSON + ": " + err.Error()}
	}
	must := func(ok bool, format string, args ...any) {
		if !ok {
			found = append(found, hostJSON+": "+fmt.Sprintf(format, args...))
		}
	}
	must(h.Version == "2.0", "version is %q, want 2.0", h.Version)
	handler := h.CustomHandler
	must(handler.EnableProxyingHTTPRequest, "enableProxyingHttpRequest is off: answers would not stream")
	must(handler.Description.DefaultExecutablePath == "zeroplane", "defaultExecutablePath is %q, want zeroplane", handler.Description.DefaultExecutablePath)
	must(slices.Equal(handler.Description.Arguments, []string{"host", "azure"}), "arguments are %q, want host azure", handler.Description.Arguments)
	must(h.ExtensionBundle.ID != "" && h.ExtensionBundle.Version != "", "extensionBundle is missing: a custom handler has queue and Event Grid triggers from it")
	http := h.Extensions.HTTP
	must(http.RoutePrefix != nil && *http.RoutePrefix == "", "routePrefix must be empty")
	must(http.MaxConcurrentRequests == -1 && http.MaxOutstandingRequests == -1, "held watches would use up maxConcurrentRequests and maxOutstandingRequests")
	timeout, err := span(h.FunctionTimeout)
	must(err == nil && timeout > frontEndCut, "functionTimeout is %q, want more than %v", h.FunctionTimeout, frontEndCut)
	queues := h.Extensions.Queues
	must(queues.MessageEncoding == "base64", "messageEncoding is %q, want base64", queues.MessageEncoding)
	must(queues.BatchSize >= 1 && queues.BatchSize <= 32, "batchSize is %d, want 1 to 32", queues.BatchSize)
	must(queues.NewBatchThreshold < queues.BatchSize, "newBatchThreshold is not below batchSize")
	must(queues.MaxDequeueCount >= 2, "maxDequeueCount is %d: a bell would be poison at its first failure", queues.MaxDequeueCount)
	_, err = span(queues.VisibilityTimeout)
	must(err == nil, "visibilityTimeout: %v", err)
	must(h.Logging.LogLevel["default"] == "Warning", "the default log level is not Warning")
	return found
}

// binding is the part of a function.json's binding that is used here, for all types together.
type binding struct {
	Type         string   `json:"type"`
	Direction    string   `json:"direction"`
	Name         string   `json:"name"`
	AuthLevel    string   `json:"authLevel"`
	Methods      []string `json:"methods"`
	Route        string   `json:"route"`
	QueueName    string   `json:"queueName"`
	Connection   string   `json:"connection"`
	Schedule     string   `json:"schedule"`
	RunOnStartup *bool    `json:"runOnStartup"`
	UseMonitor   *bool    `json:"useMonitor"`
}

// triggers are the functions of the app and what calls them.
var triggers = map[string]string{
	"api": "httpTrigger", "webhook": "httpTrigger", "bells": "queueTrigger", "eventgrid": "eventGridTrigger", "timer": "timerTrigger",
}

// maxTimerRuns of a day: what an idle plane may cost.
const maxTimerRuns = 288

// checkFunctions finds what is wrong with the folders of functions.
func checkFunctions(fsys fs.FS) []string {
	var found []string
	names, _ := fs.Glob(fsys, "functions/*/function.json")
	seen := map[string]string{}
	routes := map[string]string{}
	settings := bicepSettings(fsys)
	for _, name := range names {
		folder := path.Base(path.Dir(name))
		add := func(format string, args ...any) { found = append(found, name+": "+fmt.Sprintf(format, args...)) }
		if sources, _ := fs.Glob(fsys, path.Dir(name)+"/*.go"); len(sources) > 0 {
			add("the folder holds Go code, %s", sources[0])
		}
		var f struct {
			Bindings []binding `json:"bindings"`
		}
		if err := strict(read(fsys, name), &f); err != nil {
			add("%v", err)
			continue
		}
		var trigger binding
		for _, b := range f.Bindings {
			if b.Name == "" || b.Direction != "in" && b.Direction != "out" {
				add("a binding of type %s has no name or direction", b.Type)
			}
			if strings.HasSuffix(b.Type, "Trigger") {
				if trigger.Type != "" {
					add("there are two triggers")
				}
				trigger = b
			}
		}
		seen[folder] = trigger.Type
		for _, f := range checkTrigger(trigger, f.Bindings, settings) {
			add("%s", f)
		}
		if trigger.Type == "httpTrigger" {
			if other := routes[trigger.Route]; other != "" {
				add("route %s is that of %s too", trigger.Route, other)
			}
			routes[trigger.Route] = folder
		}
	}
	for _, name := range slices.Sorted(maps.Keys(triggers)) {
		if seen[name] != triggers[name] {
			found = append(found, fmt.Sprintf("function %s has trigger %q, want %s", name, seen[name], triggers[name]))
		}
	}
	return found
}

// checkTrigger finds what is wrong with a trigger among its bindings.
func checkTrigger(b binding, all []binding, settings map[string]string) []string {
	var found []string
	add := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	if b.Direction != "in" {
		add("the trigger's direction is %q, want in", b.Direction)
	}
	out := slices.ContainsFunc(all, func(b binding) bool { return b.Type == "http" && b.Direction == "out" })
	switch b.Type {
	case "httpTrigger":
		if b.AuthLevel != "anonymous" {
			add("authLevel is %q: the Kubernetes API authenticates", b.AuthLevel)
		}
		if b.Route == "" || strings.HasPrefix(b.Route, "/") || strings.HasPrefix(b.Route, "admin") {
			add("route %q cannot be", b.Route)
		}
		if !out {
			add("no http output: the host would not proxy")
		}
	case "queueTrigger":
		variable := strings.Trim(b.QueueName, "%")
		if "%"+variable+"%" != b.QueueName {
			add("queueName %q is no %%SETTING%%", b.QueueName)
		}
		for _, setting := range []string{variable, b.Connection + "__queueServiceUri", b.Connection + "__credential", b.Connection + "__clientId"} {
			if _, ok := settings[setting]; !ok {
				add("setting %s is not in %s", setting, mainBicep)
			}
		}
	case "timerTrigger":
		if runs, err := runsPerDay(b.Schedule); err != nil || runs > maxTimerRuns {
			add("schedule %q runs %d times a day (%v), want at most %d", b.Schedule, runs, err, maxTimerRuns)
		}
		if b.UseMonitor == nil || !*b.UseMonitor {
			add("useMonitor is off: an occurrence that passes while an instance starts would be missed")
		}
		if b.RunOnStartup == nil || *b.RunOnStartup {
			add("runOnStartup is on: every new instance would run it")
		}
	case "eventGridTrigger":
	default:
		add("trigger %q is not known", b.Type)
	}
	return found
}

// runsPerDay counts the occurrences of a schedule of six fields, of which each is *, */N or a number, and the last
// three *.
func runsPerDay(schedule string) (int, error) {
	fields := strings.Fields(schedule)
	if len(fields) != 6 {
		return 0, fmt.Errorf("%d fields, want 6", len(fields))
	}
	if !slices.Equal(fields[3:], []string{"*", "*", "*"}) {
		return 0, fmt.Errorf("days and months are not all")
	}
	runs := 1
	for i, size := range []int{60, 60, 24} {
		var n int
		switch field := fields[i]; {
		case field == "*":
			runs *= size
		case strings.HasPrefix(field, "*/"):
			if _, err := fmt.Sscanf(field, "*/%d", &n); err != nil || n < 1 {
				return 0, fmt.Errorf("field %q", field)
			}
			runs *= (size + n - 1) / n
		default:
			if _, err := fmt.Sscanf(field, "%d", &n); err != nil || n < 0 || n >= size {
				return 0, fmt.Errorf("field %q", field)
			}
		}
	}
	return runs, nil
}

// strict decodes JSON and refuses what the value has no place for.
func strict(data string, into any) error {
	d := json.NewDecoder(bytes.NewReader([]byte(data)))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

// span reads HH:MM:SS.
func span(s string) (time.Duration, error) {
	var h, m, sec int
	if _, err := fmt.Sscanf(s, "%02d:%02d:%02d", &h, &m, &sec); err != nil {
		return 0, fmt.Errorf("%q is no HH:MM:SS", s)
	}
	return time.Duration(h)*time.Hour + time.Duration(m)*time.Minute + time.Duration(sec)*time.Second, nil
}

func TestHostFileIsValid(t *testing.T) {
	hold(t, checkHost, map[string]mutation{
		"buffered forwarding":    {hostJSON, `"enableProxyingHttpRequest": true`, `"enableForwardingHttpRequest": true`, "unknown field"},
		"no proxying":            {hostJSON, `"enableProxyingHttpRequest": true`, `"enableProxyingHttpRequest": false`, "would not stream"},
		"the default prefix":     {hostJSON, `"routePrefix": ""`, `"routePrefix": "api"`, "routePrefix"},
		"a short timeout":        {hostJSON, `"00:05:00"`, `"00:03:00"`, "functionTimeout"},
		"plain queue messages":   {hostJSON, `"base64"`, `"none"`, "messageEncoding"},
		"a limit on watches":     {hostJSON, `"maxConcurrentRequests": -1`, `"maxConcurrentRequests": 100`, "held watches"},
		"another program":        {hostJSON, `["host", "azure"]`, `["serve"]`, "arguments"},
		"a word spelled wrongly": {hostJSON, `"batchSize"`, `"batchsizes"`, "unknown field"},
		"broken JSON":            {hostJSON, `"2.0",`, `"2.0"`, "invalid character"},
	})
}

func TestFunctionFoldersAreValid(t *testing.T) {
	hold(t, checkFunctions, map[string]mutation{
		"a key for the API":           {"functions/api/function.json", "anonymous", "function", "authLevel"},
		"no http output":              {"functions/api/function.json", `"type": "http",`, `"type": "queue",`, "no http output"},
		"a route taken twice":         {"functions/webhook/function.json", `"events"`, `"{*path}"`, "is that of api too"},
		"another function's trigger":  {"functions/eventgrid/function.json", "eventGridTrigger", "timerTrigger", "want eventGridTrigger"},
		"a queue named outright":      {"functions/bells/function.json", "%ZEROPLANE_BELLS_QUEUE%", "bells", "is no %SETTING%"},
		"a setting that is not there": {"functions/bells/function.json", "%ZEROPLANE_BELLS_QUEUE%", "%ZEROPLANE_QUEUE%", "setting ZEROPLANE_QUEUE"},
		"a connection not there":      {"functions/bells/function.json", "ZEROPLANE_STORAGE", "ZEROPLANE_QUEUES", "ZEROPLANE_QUEUES__queueServiceUri"},
		"a timer each minute":         {"functions/timer/function.json", "*/5", "*/1", "1440 times"},
		"five fields":                 {"functions/timer/function.json", "0 */5 * * * *", "*/5 * * * *", "5 fields"},
		"a timer without its monitor": {"functions/timer/function.json", `"useMonitor": true`, `"useMonitor": false`, "would be missed"},
		"a word spelled wrongly":      {"functions/timer/function.json", `"schedule"`, `"scheduled"`, "unknown field"},
	})
}

func TestFunctionFoldersHoldNoCode(t *testing.T) {
	changed := files(t)
	changed["functions/timer/timer.go"] = changed[hostJSON]
	if found := checkFunctions(changed); len(found) != 1 || !strings.Contains(found[0], "holds Go code") {
		t.Errorf("found %q, want one of Go code", found)
	}
}

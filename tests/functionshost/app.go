package functionshost

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// app is a function app as its folder says.
type app struct {
	executable string
	arguments  []string
	functions  map[string]binding
	queues     queueSettings
}

// binding is the trigger of a function.
type binding struct {
	Type, Name, Route, QueueName, Schedule string
	Methods                                []string
}

type queueSettings struct {
	BatchSize          int32
	MaxPollingInterval duration
	VisibilityTimeout  duration
	MaxDequeueCount    int64
}

// duration is written as 00:05:00.
type duration time.Duration

func (d *duration) UnmarshalJSON(b []byte) error {
	var h, m, s int
	if _, err := fmt.Sscanf(strings.Trim(string(b), `"`), "%d:%d:%d", &h, &m, &s); err != nil {
		return fmt.Errorf("duration %s: %w", b, err)
	}
	*d = duration(time.Duration(h)*time.Hour + time.Duration(m)*time.Minute + time.Duration(s)*time.Second)
	return nil
}

// loadApp reads host.json and every function.json below a folder. It refuses what the real host would serve in
// another way than this one does.
func loadApp(folder string) (*app, error) {
	var host struct {
		CustomHandler struct {
			Description struct {
				DefaultExecutablePath string
				Arguments             []string
			}
			EnableProxyingHTTPRequest bool `json:"enableProxyingHttpRequest"`
		}
		Extensions struct {
			HTTP   struct{ RoutePrefix *string }
			Queues queueSettings
		}
	}
	if err := readJSON(filepath.Join(folder, "host.json"), &host); err != nil {
		return nil, err
	}
	if p := host.Extensions.HTTP.RoutePrefix; p == nil || *p != "" || !host.CustomHandler.EnableProxyingHTTPRequest {
		return nil, fmt.Errorf("%s/host.json: routePrefix must be empty and enableProxyingHttpRequest set", folder)
	}
	a := &app{
		executable: host.CustomHandler.Description.DefaultExecutablePath, arguments: host.CustomHandler.Description.Arguments,
		functions: map[string]binding{}, queues: host.Extensions.Queues,
	}
	files, err := filepath.Glob(filepath.Join(folder, "*", "function.json"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		var f struct{ Bindings []binding }
		if err := readJSON(file, &f); err != nil {
			return nil, err
		}
		for _, b := range f.Bindings {
			if strings.HasSuffix(b.Type, "Trigger") {
				a.functions[filepath.Base(filepath.Dir(file))] = b
			}
		}
	}
	return a, nil
}

func readJSON(file string, into any) error {
	b, err := os.ReadFile(file) //nolint:gosec // of this repository
	if err == nil {
		err = json.Unmarshal(b, into)
	}
	if err != nil {
		return fmt.Errorf("reading %s: %w", file, err)
	}
	return nil
}

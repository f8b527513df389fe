package lambdahost

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// stack is what the template for AWS deploys, as far as calls depend on it.
type stack struct {
	// bootstrap is the script that starts a function's process.
	bootstrap string
	functions map[string]*settings
	// url, sqs, schedule name the functions that have such a trigger; rules are those for events.
	url, sqs, schedule string
	rules              []rule
	queue              queueSettings
}

// settings of a function.
type settings struct {
	timeout time.Duration
	// partial is set where the function names the messages of a batch that failed, retries is how often a call that nobody
	// waits for comes again.
	partial          bool
	batch, retries   int
	scheduledRetries int
}

// rule is which events a function gets.
type rule struct {
	function    string
	source      []string
	detailTypes []string
}

type queueSettings struct {
	visibility time.Duration
	maxReceive int
}

// resource is one of the template's. Functions of CloudFormation, as !Ref NAME, are read as their arguments.
type resource struct {
	Type       string    `yaml:"Type"`
	Properties yaml.Node `yaml:"Properties"`
}

// parameter is one of the template's.
type parameter struct {
	Default yaml.Node `yaml:"Default"`
}

// globals are what all functions have.
type globals struct {
	Runtime string `yaml:"Runtime"`
	Handler string `yaml:"Handler"`
}

type functionProperties struct {
	Timeout           int `yaml:"Timeout"`
	FunctionURLConfig struct {
		AuthType   string `yaml:"AuthType"`
		InvokeMode string `yaml:"InvokeMode"`
	} `yaml:"FunctionUrlConfig"`
	EventInvokeConfig struct {
		MaximumRetryAttempts int `yaml:"MaximumRetryAttempts"`
	} `yaml:"EventInvokeConfig"`
	Events map[string]struct {
		Type       string `yaml:"Type"`
		Properties struct {
			BatchSize             int      `yaml:"BatchSize"`
			FunctionResponseTypes []string `yaml:"FunctionResponseTypes"`
			Pattern               struct {
				Source     []string `yaml:"source"`
				DetailType []string `yaml:"detail-type"`
			} `yaml:"Pattern"`
			RetryPolicy struct {
				MaximumRetryAttempts int `yaml:"MaximumRetryAttempts"`
			} `yaml:"RetryPolicy"`
		} `yaml:"Properties"`
	} `yaml:"Events"`
}

type queueProperties struct {
	VisibilityTimeout int `yaml:"VisibilityTimeout"`
	RedrivePolicy     struct {
		MaxReceiveCount int `yaml:"maxReceiveCount"`
	} `yaml:"RedrivePolicy"`
}

// loadStack reads the template. It refuses what the service would serve in another way than this package does.
func loadStack(root string) (*stack, error) {
	file := filepath.Join(root, "infra", "aws", "sam", "template.yaml")
	data, err := os.ReadFile(file) //nolint:gosec // of this repository
	if err != nil {
		return nil, err
	}
	var document yaml.Node
	var given struct {
		Parameters map[string]parameter `yaml:"Parameters"`
	}
	var template struct {
		Globals struct {
			Function globals `yaml:"Function"`
		} `yaml:"Globals"`
		Resources map[string]resource `yaml:"Resources"`
	}
	err = yaml.Unmarshal(data, &document)
	if err == nil {
		err = document.Decode(&given)
	}
	if err == nil {
		err = bare(&document, given.Parameters).Decode(&template)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	g := template.Globals.Function
	if !strings.HasPrefix(g.Runtime, "provided.") || g.Handler != "bootstrap" {
		return nil, fmt.Errorf("%s: the functions run %s on %s, want bootstrap on \"provided.\"", file, g.Handler, g.Runtime)
	}
	s := &stack{functions: map[string]*settings{}, bootstrap: filepath.Join(root, "infra", "aws", g.Handler)}
	for name, r := range template.Resources {
		switch r.Type {
		case "AWS::Serverless::Function":
			err = s.addFunction(name, r.Properties)
		case "AWS::SQS::Queue":
			err = s.addQueue(r.Properties)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", file, name, err)
		}
	}
	if s.url == "" || s.sqs == "" || s.schedule == "" || s.queue.maxReceive == 0 {
		return nil, fmt.Errorf("%s: a URL, a batch of SQS, a schedule or a queue with dead letters is missing", file)
	}
	return s, nil
}

// bare puts parameters' defaults in place of what refers to them, and nothing in place of other functions of
// CloudFormation: what they name does not matter here.
func bare(n *yaml.Node, parameters map[string]parameter) *yaml.Node {
	if strings.HasPrefix(n.Tag, "!") && !strings.HasPrefix(n.Tag, "!!") {
		p, known := parameters[n.Value]
		if known = known && n.Tag == "!Ref"; known {
			*n = p.Default
		} else {
			*n = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"}
		}
	}
	for _, c := range n.Content {
		bare(c, parameters)
	}
	return n
}

func (s *stack) addFunction(name string, properties yaml.Node) error {
	var p functionProperties
	if err := properties.Decode(&p); err != nil {
		return err
	}
	f := &settings{timeout: time.Duration(p.Timeout) * time.Second, retries: p.EventInvokeConfig.MaximumRetryAttempts}
	s.functions[name] = f
	if c := p.FunctionURLConfig; c.AuthType != "" {
		if c.AuthType != "NONE" || c.InvokeMode != "RESPONSE_STREAM" {
			return fmt.Errorf("its URL is %s and %s, want NONE and RESPONSE_STREAM", c.AuthType, c.InvokeMode)
		}
		s.url = name
	}
	for _, e := range p.Events {
		switch e.Type {
		case "SQS":
			s.sqs, f.batch = name, e.Properties.BatchSize
			f.partial = slices.Contains(e.Properties.FunctionResponseTypes, "ReportBatchItemFailures")
		case "Schedule":
			s.schedule, f.scheduledRetries = name, e.Properties.RetryPolicy.MaximumRetryAttempts
		case "EventBridgeRule":
			s.rules = append(s.rules, rule{name, e.Properties.Pattern.Source, e.Properties.Pattern.DetailType})
		default:
			return fmt.Errorf("an event of type %s is not imitated", e.Type)
		}
	}
	return nil
}

// addQueue takes the queue that has dead letters: the other one takes them.
func (s *stack) addQueue(properties yaml.Node) error {
	var p queueProperties
	if err := properties.Decode(&p); err != nil {
		return err
	}
	if p.RedrivePolicy.MaxReceiveCount > 0 {
		s.queue = queueSettings{visibility: time.Duration(p.VisibilityTimeout) * time.Second, maxReceive: p.RedrivePolicy.MaxReceiveCount}
	}
	return nil
}

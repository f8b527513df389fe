package infra

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// The properties of SAM that are used, from the SAM developer guide; a name that begins with ! must be there.
var samSchemas = map[string]schema{
	"AWS::Serverless::Function": {
		"Description": "string", "Role": "string", "Timeout": "integer", "MemorySize": "integer", "Runtime": "string", "Handler": "string",
		"CodeUri": "string", "Architectures": []any{"string"}, "ReservedConcurrentExecutions": "integer",
		"Environment":       map[string]any{"Variables": map[string]any{"*": "string"}},
		"LoggingConfig":     map[string]any{"LogGroup": "string", "LogFormat": "string"},
		"FunctionUrlConfig": map[string]any{"!AuthType": "string", "Cors": "json", "InvokeMode": "string"},
		"EventInvokeConfig": map[string]any{
			"MaximumRetryAttempts": "integer", "MaximumEventAgeInSeconds": "integer",
			"DestinationConfig": map[string]any{"OnFailure": map[string]any{"!Type": "string", "Destination": "string"}},
		},
		"Events": map[string]any{"*": map[string]any{"!Type": "string", "!Properties": "json"}},
	},
	"SQS": {
		"!Queue": "string", "BatchSize": "integer", "FunctionResponseTypes": []any{"string"}, "MaximumBatchingWindowInSeconds": "integer",
		"Enabled": "boolean", "FilterCriteria": "json", "ScalingConfig": "json",
	},
	"Schedule": {
		"Schedule": "string", "Description": "string", "Enabled": "boolean", "Input": "string", "Name": "string",
		"RetryPolicy":      map[string]any{"MaximumRetryAttempts": "integer", "MaximumEventAgeInSeconds": "integer"},
		"DeadLetterConfig": "json",
	},
	"EventBridgeRule": {"!Pattern": "json", "EventBusName": "string", "Input": "string", "RetryPolicy": "json", "DeadLetterConfig": "json"},
}

// template is the parsed file.
type template struct {
	tree map[string]any
	// names are what Ref, GetAtt, Sub, If and Condition name, and whether each is a resource alone.
	names map[string]bool
	// conditions are those that If and Condition name.
	conditions []string
}

// intrinsic is a function of CloudFormation, as !Ref NAME.
type intrinsic struct {
	name string
	arg  any
}

// parseSAM reads the template.
func parseSAM(fsys fs.FS) (template, error) {
	t := template{names: map[string]bool{}}
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(read(fsys, samTemplate)), &document); err != nil {
		return t, err
	}
	value, err := t.value(document.Content[0])
	t.tree, _ = value.(map[string]any)
	return t, err
}

var subReference = regexp.MustCompile(`\$\{([^}!]+)\}`)

// value converts a node, and notes what it refers to.
func (t *template) value(n *yaml.Node) (any, error) {
	var v any
	switch n.Kind {
	case yaml.MappingNode:
		members := map[string]any{}
		for i := 0; i < len(n.Content); i += 2 {
			key := n.Content[i].Value
			if _, ok := members[key]; ok {
				return nil, fmt.Errorf("line %d: %s stands twice", n.Content[i].Line, key)
			}
			inner, err := t.value(n.Content[i+1])
			if err != nil {
				return nil, err
			}
			members[key] = inner
		}
		v = members
	case yaml.SequenceNode:
		elements := []any{}
		for _, c := range n.Content {
			inner, err := t.value(c)
			if err != nil {
				return nil, err
			}
			elements = append(elements, inner)
		}
		v = elements
	default:
		if strings.HasPrefix(n.Tag, "!!") {
			if err := n.Decode(&v); err != nil {
				return nil, err
			}
		} else {
			v = n.Value
		}
	}
	if strings.HasPrefix(n.Tag, "!!") || n.Tag == "" {
		return v, nil
	}
	return t.intrinsic(strings.TrimPrefix(n.Tag, "!"), v, n.Line)
}

// intrinsic notes what a function refers to.
func (t *template) intrinsic(name string, arg any, line int) (any, error) {
	switch name {
	case "Ref":
		t.names[fmt.Sprint(arg)] = false
	case "GetAtt":
		resource, _, _ := strings.Cut(fmt.Sprint(arg), ".")
		t.names[resource] = true
	case "Sub":
		for _, m := range subReference.FindAllStringSubmatch(fmt.Sprint(arg), -1) {
			t.names[m[1]] = false
		}
	case "If":
		list, _ := arg.([]any)
		if len(list) != 3 {
			return nil, fmt.Errorf("line %d: If has %d parts, want 3", line, len(list))
		}
		t.conditions = append(t.conditions, fmt.Sprint(list[0]))
	case "Not", "Equals":
	default:
		return nil, fmt.Errorf("line %d: function %s is not known", line, name)
	}
	return intrinsic{name, arg}, nil
}

// checkValue holds a value against its schema, as CloudFormation's specification gives it.
func checkValue(where string, value, s any) []string {
	if _, ok := value.(intrinsic); ok {
		return nil
	}
	switch s := s.(type) {
	case string:
		var ok bool
		switch value.(type) {
		case string:
			ok = s == "string" || s == "json"
		case int:
			ok = s == "integer" || s == "number" || s == "json"
		case float64:
			ok = s == "number" || s == "json"
		case bool:
			ok = s == "boolean" || s == "json"
		default:
			ok = s == "json"
		}
		if !ok {
			return []string{fmt.Sprintf("%s is %v, want a value of type %s", where, value, s)}
		}
	case []any:
		list, ok := value.([]any)
		if !ok {
			return []string{where + " is no list"}
		}
		var found []string
		for i, element := range list {
			found = append(found, checkValue(fmt.Sprintf("%s[%d]", where, i), element, s[0])...)
		}
		return found
	case schema:
		return checkValue(where, value, map[string]any(s))
	case map[string]any:
		return checkMembers(where, value, s)
	}
	return nil
}

func checkMembers(where string, value any, s map[string]any) []string {
	members, ok := value.(map[string]any)
	if !ok {
		return []string{where + " is no mapping"}
	}
	var found []string
	for _, name := range slices.Sorted(maps.Keys(members)) {
		inner, ok := s[name]
		if !ok {
			inner, ok = s["!"+name]
		}
		if !ok {
			inner, ok = s["*"]
		}
		if !ok {
			found = append(found, fmt.Sprintf("%s has no property %s", where, name))
			continue
		}
		found = append(found, checkValue(where+"."+name, members[name], inner)...)
	}
	for _, name := range slices.Sorted(maps.Keys(s)) {
		if bare, must := strings.CutPrefix(name, "!"); must && members[bare] == nil {
			found = append(found, fmt.Sprintf("%s lacks %s", where, bare))
		}
	}
	return found
}

// checkSAM finds what is wrong with the template for AWS.
func checkSAM(fsys fs.FS) []string {
	t, err := parseSAM(fsys)
	if err != nil {
		return []string{err.Error()}
	}
	data, err := os.ReadFile("testdata/cloudformation.json")
	if err != nil {
		return []string{err.Error()}
	}
	var native map[string]schema
	if err := json.Unmarshal(data, &native); err != nil {
		return []string{err.Error()}
	}
	found := t.checkNames()
	resources, _ := t.tree["Resources"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(resources)) {
		kind, _ := at(resources[name], "Type").(string)
		s, ok := native[kind]
		if !ok {
			s, ok = samSchemas[kind]
		}
		if !ok {
			found = append(found, fmt.Sprintf("%s: type %q is not known here: add it to testdata", name, kind))
			continue
		}
		found = append(found, checkValue(name, at(resources[name], "Properties"), s)...)
		events, _ := at(resources[name], "Properties", "Events").(map[string]any)
		for _, event := range slices.Sorted(maps.Keys(events)) {
			s := samSchemas[fmt.Sprint(at(events[event], "Type"))]
			if s == nil {
				found = append(found, fmt.Sprintf("%s.%s: event type %v is not known", name, event, at(events[event], "Type")))
				continue
			}
			found = append(found, checkValue(name+"."+event, at(events[event], "Properties"), s)...)
		}
		if kind == "AWS::IAM::Role" {
			found = append(found, checkRole(name, at(resources[name], "Properties"))...)
		}
	}
	found = append(found, checkValue("Globals.Function", at(t.tree, "Globals", "Function"), samSchemas["AWS::Serverless::Function"])...)
	return append(found, t.checkPlane(fsys, resources)...)
}

// checkNames finds references to what is not declared, and parameters and conditions that nothing refers to.
func (t template) checkNames() []string {
	var found []string
	section := func(name string) map[string]any {
		members, _ := t.tree[name].(map[string]any)
		return members
	}
	parameters, resources, conditions := section("Parameters"), section("Resources"), section("Conditions")
	used := slices.Clone(t.conditions)
	for name := range resources {
		if condition, ok := at(resources[name], "Condition").(string); ok {
			used = append(used, condition)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.names)) {
		// SAM makes a resource for a function's URL.
		function, isURL := strings.CutSuffix(name, "Url")
		isURL = isURL && at(resources[function], "Properties", "FunctionUrlConfig") != nil
		isParameter := parameters[name] != nil && !t.names[name]
		if resources[name] == nil && !isURL && !isParameter && !strings.HasPrefix(name, "AWS::") {
			found = append(found, name+" is not declared")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		if _, ok := t.names[name]; !ok {
			found = append(found, "parameter "+name+" is not used")
		}
	}
	for _, name := range used {
		if conditions[name] == nil {
			found = append(found, "condition "+name+" is not declared")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(conditions)) {
		if !slices.Contains(used, name) {
			found = append(found, "condition "+name+" is not used")
		}
	}
	return found
}

// checkRole finds rights to everything.
func checkRole(name string, properties any) []string {
	var found []string
	policies, _ := at(properties, "Policies").([]any)
	for _, policy := range policies {
		statements, _ := at(policy, "PolicyDocument", "Statement").([]any)
		for _, s := range statements {
			if strings.Contains(fmt.Sprint(at(s, "Action")), "*") {
				found = append(found, fmt.Sprintf("%s may do %v", name, at(s, "Action")))
			}
			if _, ok := at(s, "Resource").(intrinsic); !ok {
				found = append(found, fmt.Sprintf("%s may do %v to %v, which is not of this template", name, at(s, "Action"), at(s, "Resource")))
			}
		}
	}
	if at(properties, "ManagedPolicyArns") != nil {
		found = append(found, name+" has a managed policy")
	}
	return found
}

// checkPlane finds what zeroplane would not work with.
func (t template) checkPlane(fsys fs.FS, resources map[string]any) []string {
	var found []string
	must := func(want any, path ...string) {
		if got := at(resources, path...); fmt.Sprint(got) != fmt.Sprint(want) {
			found = append(found, fmt.Sprintf("%s is %v, want %v", strings.Join(path, "."), got, want))
		}
	}
	must("RESPONSE_STREAM", "ApiFunction", "Properties", "FunctionUrlConfig", "InvokeMode")
	must("NONE", "ApiFunction", "Properties", "FunctionUrlConfig", "AuthType")
	must("rate(5 minutes)", "EventsFunction", "Properties", "Events", "Timer", "Properties", "Schedule")
	must([]any{"ReportBatchItemFailures"}, "EventsFunction", "Properties", "Events", "Bells", "Properties", "FunctionResponseTypes")
	must("zeroplane-bells", "BellsQueue", "Properties", "QueueName")
	must("zeroplane-bells-poison", "PoisonQueue", "Properties", "QueueName")
	must(intrinsic{"GetAtt", "PoisonQueue.Arn"}, "BellsQueue", "Properties", "RedrivePolicy", "deadLetterTargetArn")
	timeout, _ := at(resources, "EventsFunction", "Properties", "Timeout").(int)
	must(6*timeout, "BellsQueue", "Properties", "VisibilityTimeout")
	if !strings.HasSuffix(strings.TrimSpace(read(fsys, "infra/aws/bootstrap")), "/zeroplane\" host aws") {
		found = append(found, "infra/aws/bootstrap does not end in zeroplane host aws")
	}
	globals := func(path ...string) any { return at(t.tree, append([]string{"Globals", "Function"}, path...)...) }
	if globals("Runtime") != "provided.al2023" || globals("Handler") != "bootstrap" {
		found = append(found, fmt.Sprintf("the functions run %v on %v, want bootstrap on provided.al2023", globals("Handler"), globals("Runtime")))
	}
	variables, _ := globals("Environment", "Variables").(map[string]any)
	for _, name := range []string{"AZURE_STORAGE_CONNECTION_STRING", "ZEROPLANE_SEAL_KEY"} {
		if !strings.Contains(fmt.Sprint(variables[name]), "{{resolve:secretsmanager:") {
			found = append(found, name+" is not resolved from a secret")
		}
	}
	// Both clouds give the program what it needs under the same names.
	settings := bicepSettings(fsys)
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		if _, ok := settings[name]; !ok && name != "AZURE_STORAGE_CONNECTION_STRING" {
			found = append(found, fmt.Sprintf("variable %s is none of the app's on Azure", name))
		}
	}
	for _, m := range regexp.MustCompile(`OutputKey=='(\w+)'`).FindAllStringSubmatch(read(fsys, "infra/aws/deploy.sh"), -1) {
		if at(t.tree, "Outputs", m[1]) == nil {
			found = append(found, "infra/aws/deploy.sh reads output "+m[1]+", which the template does not have")
		}
	}
	for _, m := range regexp.MustCompile(`"([A-Z]\w+)=\$`).FindAllStringSubmatch(read(fsys, "infra/aws/deploy.sh"), -1) {
		if at(t.tree, "Parameters", m[1]) == nil {
			found = append(found, "infra/aws/deploy.sh gives parameter "+m[1]+", which the template does not have")
		}
	}
	return found
}

func TestSAMTemplateIsConsistent(t *testing.T) {
	hold(t, checkSAM, map[string]mutation{
		"broken YAML":                  {samTemplate, "Parameters:", "Parameters", "could not find expected"},
		"a resource not declared":      {samTemplate, "!GetAtt BellsQueue.Arn", "!GetAtt BellQueue.Arn", "BellQueue is not declared"},
		"an attribute of a parameter":  {samTemplate, "!GetAtt ApiRole.Arn", "!GetAtt Address.Arn", "Address is not declared"},
		"a URL of the other function":  {samTemplate, "ApiFunctionUrl.FunctionUrl", "EventsFunctionUrl.FunctionUrl", "EventsFunctionUrl is not declared"},
		"a parameter not used":         {samTemplate, "MemorySize: !Ref MemorySize", "MemorySize: 512", "parameter MemorySize is not used"},
		"a condition not declared":     {samTemplate, "!If [Bounded,", "!If [Bound,", "condition Bound is not declared"},
		"an unknown function":          {samTemplate, "!Ref ApiLogs", "!Reference ApiLogs", "Reference is not known"},
		"a property of SQS misspelled": {samTemplate, "MessageRetentionPeriod", "MessageRetention", "has no property MessageRetention"},
		"a property of SAM misspelled": {samTemplate, "InvokeMode", "InvocationMode", "has no property InvocationMode"},
		"a property of an event":       {samTemplate, "FunctionResponseTypes", "ResponseTypes", "has no property ResponseTypes"},
		"a number in words":            {samTemplate, "VisibilityTimeout: 360", "VisibilityTimeout: long", "want a value of type integer"},
		"a required property missing":  {samTemplate, "          Unit: USD\n", "", "lacks Unit"},
		"an unknown type":              {samTemplate, "Type: AWS::SQS::Queue", "Type: AWS::SQS::Queues", "is not known here"},
		"answers that do not stream":   {samTemplate, "RESPONSE_STREAM", "BUFFERED", "InvokeMode"},
		"a timer each minute":          {samTemplate, "rate(5 minutes)", "rate(1 minute)", "Schedule"},
		"a lease shorter than work":    {samTemplate, "VisibilityTimeout: 360", "VisibilityTimeout: 30", "VisibilityTimeout"},
		"a right to all queues":        {samTemplate, "Resource: !GetAtt BellsQueue.Arn", "Resource: \"*\"", "which is not of this template"},
		"a right to all actions":       {samTemplate, "Action: sqs:SendMessage", "Action: sqs:*", "may do sqs:*"},
		"a secret in the clear":        {samTemplate, "{{resolve:secretsmanager:${SecretName}:SecretString:sealKey}}", "${SecretName}", "ZEROPLANE_SEAL_KEY"},
		"another host":                 {"infra/aws/bootstrap", "host aws", "host lambda", "host aws"},
		"an output that is missing":    {samTemplate, "  Url:\n", "  Uri:\n", "reads output Url"},
	})
}

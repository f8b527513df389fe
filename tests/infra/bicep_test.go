package infra

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// bicepFile is a parsed file of the part of Bicep that is used here: declarations with bodies of objects and arrays
// over several lines, and expressions of one line.
type bicepFile struct {
	// code is the text without comments and strings; what strings interpolate stays, in parentheses.
	code string
	// declared is each symbol with its kind: param, var, resource or output.
	declared  map[string]string
	resources []bicepResource
	vars      map[string]any
}

type bicepResource struct {
	symbol, kind string
	body         map[string]any
	// code is the resource's part of the file's.
	code string
}

var (
	bicepDeclaration = regexp.MustCompile(`(?m)^(param|var|resource|output) (\w+)`)
	bicepHead        = regexp.MustCompile(`^resource (\w+) '([^']+)@(\d{4}-\d\d-\d\d(?:-preview)?)' (existing )?= (if \(.*\) )?\{$`)
	bicepVar         = regexp.MustCompile(`^var (\w+) = (.*)$`)
	bicepProperty    = regexp.MustCompile(`^('[^']*(?:\$\{[^}]*\})?[^']*'|[A-Za-z_]\w*): (.*)$`)
	bicepWord        = regexp.MustCompile(`[A-Za-z_]\w*`)
)

// bicepWords are the language's keywords, types and decorators, and those of its functions that are used.
var bicepWords = strings.Fields(`param var resource output existing if string int bool object array true false
	description secure allowed minValue maxValue empty guid resourceGroup subscription subscriptionResourceId uniqueString utcNow`)

// parseBicep parses a file, or says where it cannot be one.
func parseBicep(source string) (bicepFile, error) {
	f := bicepFile{declared: map[string]string{}, vars: map[string]any{}}
	code, err := bicepCode(source)
	if err != nil {
		return f, err
	}
	f.code = code
	for _, m := range bicepDeclaration.FindAllStringSubmatch(code, -1) {
		name := m[2]
		if m[1] == "output" {
			name = "output " + name
		}
		if f.declared[name] != "" {
			return f, fmt.Errorf("%s is declared twice", m[2])
		}
		f.declared[name] = m[1]
	}
	lines := strings.Split(source, "\n")
	codeLines := strings.Split(code, "\n")
	for i := range lines {
		if m := bicepVar.FindStringSubmatch(lines[i]); m != nil {
			f.vars[m[1]], _, err = bicepValue(m[2], lines, i)
		} else if strings.HasPrefix(lines[i], "resource ") {
			m := bicepHead.FindStringSubmatch(lines[i])
			if m == nil {
				return f, fmt.Errorf("line %d is no resource", i+1)
			}
			body, end, e := bicepValue("{", lines, i)
			err = e
			object, _ := body.(map[string]any)
			f.resources = append(f.resources, bicepResource{m[1], m[2], object, strings.Join(codeLines[i:min(end+1, len(lines))], "\n")})
		}
		if err != nil {
			return f, err
		}
	}
	return f, nil
}

// bicepCode blanks comments and strings, and holds brackets against each other.
func bicepCode(source string) (string, error) {
	var out strings.Builder
	var open []byte
	line := 1
	inString := func() bool { return len(open) > 0 && open[len(open)-1] == '\'' }
	for i := 0; i < len(source); i++ {
		c := source[i]
		switch {
		case c == '\n':
			if inString() {
				return "", fmt.Errorf("line %d: a string does not end", line)
			}
			line++
			out.WriteByte(c)
		case inString() && c == '\\':
			i++
			out.WriteString("  ")
		case inString() && strings.HasPrefix(source[i:], "${"):
			open = append(open, '$')
			i++
			out.WriteString(" (")
		case inString() && c == '\'':
			open = open[:len(open)-1]
			out.WriteByte(' ')
		case inString():
			out.WriteByte(' ')
		case c == '\'':
			open = append(open, '\'')
			out.WriteByte(' ')
		case strings.HasPrefix(source[i:], "//"):
			end := strings.IndexByte(source[i:], '\n')
			if end < 0 {
				end = len(source) - i
			}
			i += end - 1
		case strings.IndexByte("([{", c) >= 0:
			open = append(open, c)
			out.WriteByte(c)
		case strings.IndexByte(")]}", c) >= 0:
			partner := map[byte]string{')': "(", ']': "[", '}': "{$"}[c]
			if len(open) == 0 || strings.IndexByte(partner, open[len(open)-1]) < 0 {
				return "", fmt.Errorf("line %d: %c closes nothing", line, c)
			}
			if open[len(open)-1] == '$' {
				c = ')'
			}
			open = open[:len(open)-1]
			out.WriteByte(c)
		default:
			out.WriteByte(c)
		}
	}
	if len(open) > 0 {
		return "", fmt.Errorf("%c is not closed", open[len(open)-1])
	}
	return out.String(), nil
}

// bicepValue parses a value that starts with text at the end of a line, and returns the last line of it. Objects are
// maps, arrays slices, anything else the text of an expression.
func bicepValue(text string, lines []string, at int) (any, int, error) {
	switch text {
	case "{}":
		return map[string]any{}, at, nil
	case "[]":
		return []any{}, at, nil
	case "{", "[":
	default:
		return text, at, nil
	}
	object := map[string]any{}
	var array []any
	for i := at + 1; i < len(lines); i++ {
		line := strings.TrimSpace(lines[i])
		switch {
		case line == "" || strings.HasPrefix(line, "//"):
			continue
		case text == "{" && line == "}":
			return object, i, nil
		case text == "[" && line == "]":
			return array, i, nil
		}
		value := line
		var key string
		if text == "{" {
			m := bicepProperty.FindStringSubmatch(line)
			if m == nil {
				return nil, i, fmt.Errorf("line %d: %q is no property", i+1, line)
			}
			key, value = strings.Trim(m[1], "'"), m[2]
			if _, ok := object[key]; ok {
				return nil, i, fmt.Errorf("line %d: property %s stands twice", i+1, key)
			}
		}
		parsed, end, err := bicepValue(value, lines, i)
		if err != nil {
			return nil, i, err
		}
		i = end
		if text == "{" {
			object[key] = parsed
		} else {
			array = append(array, parsed)
		}
	}
	return nil, len(lines), errors.New("a body does not end")
}

// names returns the symbols that a part of the code refers to: words that are neither properties nor keys.
func (f bicepFile) names(code string) []string {
	var names []string
	for _, at := range bicepWord.FindAllStringIndex(code, -1) {
		word, before, after := code[at[0]:at[1]], code[:at[0]], strings.TrimLeft(code[at[1]:], " ")
		isKey := strings.HasPrefix(after, ":") && strings.TrimSpace(before[strings.LastIndexByte(before, '\n')+1:]) == ""
		if strings.HasSuffix(before, ".") || isKey || strings.ContainsAny(before[max(0, len(before)-1):], "0123456789") {
			continue
		}
		names = append(names, word)
	}
	return names
}

// checkBicepFile finds what does not fit within one file.
func checkBicepFile(fsys fs.FS, name string) []string {
	f, err := parseBicep(read(fsys, name))
	if err != nil {
		return []string{name + ": " + err.Error()}
	}
	var found []string
	uses := map[string]int{}
	for _, word := range f.names(f.code) {
		uses[word]++
		if f.declared[word] == "" && f.declared["output "+word] == "" && !slices.Contains(bicepWords, word) {
			found = append(found, fmt.Sprintf("%s: %s is not declared", name, word))
		}
	}
	for _, symbol := range slices.Sorted(maps.Keys(f.declared)) {
		if kind := f.declared[symbol]; (kind == "param" || kind == "var") && uses[symbol] < 2 {
			found = append(found, fmt.Sprintf("%s: %s %s is not used", name, kind, symbol))
		}
	}
	roles, _ := f.vars["roles"].(map[string]any)
	for _, m := range regexp.MustCompile(`\broles\.(\w+)`).FindAllStringSubmatch(f.code, -1) {
		if roles[m[1]] == nil {
			found = append(found, fmt.Sprintf("%s: roles.%s is not declared", name, m[1]))
		}
	}
	if circle := f.circle(); circle != "" {
		found = append(found, fmt.Sprintf("%s: resources depend on each other in a circle: %s", name, circle))
	}
	return found
}

// circle returns a circle of resources that refer to each other, empty if there is none.
func (f bicepFile) circle() string {
	needs := map[string][]string{}
	for _, r := range f.resources {
		_, body, _ := strings.Cut(r.code, "\n")
		for _, name := range f.names(body) {
			if f.declared[name] == "resource" {
				needs[r.symbol] = append(needs[r.symbol], name)
			}
		}
	}
	done := map[string]bool{}
	var visit func(symbol string, way []string) string
	visit = func(symbol string, way []string) string {
		if slices.Contains(way, symbol) {
			return strings.Join(append(way, symbol), " > ")
		}
		if done[symbol] {
			return ""
		}
		for _, next := range needs[symbol] {
			if found := visit(next, append(slices.Clone(way), symbol)); found != "" {
				return found
			}
		}
		done[symbol] = true
		return ""
	}
	for _, symbol := range slices.Sorted(maps.Keys(needs)) {
		if found := visit(symbol, nil); found != "" {
			return found
		}
	}
	return ""
}

// resource returns the one of that symbol.
func (f bicepFile) resource(symbol string) bicepResource {
	i := slices.IndexFunc(f.resources, func(r bicepResource) bool { return r.symbol == symbol })
	if i < 0 {
		return bicepResource{}
	}
	return f.resources[i]
}

// at follows a path of keys into an object.
func at(value any, path ...string) any {
	for _, key := range path {
		object, _ := value.(map[string]any)
		value = object[key]
	}
	return value
}

// bicepSettings returns the app's settings and the expressions of their values; none if the file does not parse.
func bicepSettings(fsys fs.FS) map[string]string {
	f, err := parseBicep(read(fsys, mainBicep))
	settings := map[string]string{}
	list, _ := at(f.resource("app").body, "properties", "siteConfig", "appSettings").([]any)
	for _, s := range list {
		name, _ := at(s, "name").(string)
		value, _ := at(s, "value").(string)
		settings[strings.Trim(name, "'")] = value
	}
	if err != nil {
		return nil
	}
	return settings
}

// roleNames are the built-in roles that may be given, by their ids.
var roleNames = map[string]string{
	"ba92f5b4-2d11-453d-a403-e96b0029c9fe": "Storage Blob Data Contributor",
	"b7e6dc6d-f1e8-4753-8033-0f276bb0955b": "Storage Blob Data Owner",
	"d5a91429-5739-47e2-a06b-3470a27159e7": "EventGrid Data Sender",
	"4633458b-17de-408a-b874-0445c86b69e6": "Key Vault Secrets User",
	"3913510d-42f4-4e42-8a64-420c390055eb": "Monitoring Metrics Publisher",
	"974c5e8b-45b9-4653-ba55-5f855dd0fb88": "Storage Queue Data Contributor",
	"0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3": "Storage Table Data Contributor",
}

// bicepRights returns the names of the roles that are given, sorted, one for each assignment, and what is wrong.
func bicepRights(f bicepFile) (rights, found []string) {
	roles, _ := f.vars["roles"].(map[string]any)
	for _, r := range f.resources {
		if r.kind != "Microsoft.Authorization/roleAssignments" {
			continue
		}
		scope, _ := at(r.body, "scope").(string)
		id, _ := at(r.body, "properties", "roleDefinitionId").(string)
		key := id[strings.LastIndexByte(id, '.')+1 : max(len(id)-1, 0)]
		role, _ := roles[key].(string)
		name := roleNames[strings.Trim(role, "'")]
		if name == "" {
			found = append(found, fmt.Sprintf("%s: %s gives a role that is not among those that may be given", mainBicep, r.symbol))
		}
		if strings.HasPrefix(name, "Storage ") && (scope == "" || f.resource(scope).kind == "Microsoft.Storage/storageAccounts") {
			found = append(found, fmt.Sprintf("%s: %s gives %s on more than one table, queue or container", mainBicep, r.symbol, name))
		}
		if !strings.Contains(fmt.Sprint(at(r.body, "name")), "guid("+scope+".id, ") {
			found = append(found, fmt.Sprintf("%s: the name of %s is not made of its scope", mainBicep, r.symbol))
		}
		rights = append(rights, name)
	}
	slices.Sort(rights)
	return rights, found
}

// constant returns a string constant of a Go file of zeroplane's.
func constant(file, name string) (string, error) {
	parsed, err := parser.ParseFile(token.NewFileSet(), root+"/"+file, nil, 0)
	if err != nil {
		return "", err
	}
	value := ""
	ast.Inspect(parsed, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && spec.Names[0].Name == name && len(spec.Values) == 1 {
			if literal, ok := spec.Values[0].(*ast.BasicLit); ok {
				value, err = strconv.Unquote(literal.Value)
			}
		}
		return true
	})
	if value == "" {
		return "", errors.Join(fmt.Errorf("%s has no constant %s", file, name), err)
	}
	return value, err
}

// checkBicep finds what is wrong with the templates for Azure.
func checkBicep(fsys fs.FS) []string {
	found := slices.Concat(checkBicepFile(fsys, mainBicep), checkBicepFile(fsys, bellsBicep))
	f, err := parseBicep(read(fsys, mainBicep))
	bells, err2 := parseBicep(read(fsys, bellsBicep))
	if err != nil || err2 != nil {
		return found
	}
	_, wrong := bicepRights(f)
	found = append(found, wrong...)
	must := func(value any, want, what string) {
		if fmt.Sprint(value) != want {
			found = append(found, fmt.Sprintf("%s is %v, want %s", what, value, want))
		}
	}
	table, err := constant("adapters/table/azure/options.go", "DefaultTable")
	if err != nil {
		found = append(found, err.Error())
	}
	must(f.vars["tableName"], "'"+table+"'", "tableName")
	must(f.vars["poisonQueueName"], strings.TrimSuffix(fmt.Sprint(f.vars["bellsQueueName"]), "'")+"-poison'", "poisonQueueName, as the host names it,")
	must(at(f.resource("storage").body, "properties", "allowSharedKeyAccess"), "false", "allowSharedKeyAccess")
	must(at(f.resource("storage").body, "properties", "allowBlobPublicAccess"), "false", "allowBlobPublicAccess")
	must(at(f.resource("topic").body, "properties", "disableLocalAuth"), "true", "the topic's disableLocalAuth")
	must(at(f.resource("topic").body, "properties", "inputSchema"), "'CloudEventSchemaV1_0'", "the topic's inputSchema")
	must(at(f.resource("app").body, "properties", "httpsOnly"), "true", "httpsOnly")
	must(at(f.resource("plan").body, "sku", "name"), "'FC1'", "the plan's SKU")
	properties := at(bells.resource("bells").body, "properties")
	must(at(properties, "eventDeliverySchema"), "'CloudEventSchemaV1_0'", "the subscription's eventDeliverySchema")
	must(at(properties, "destination", "properties", "endpointUrl"), "'https://${address}/events'", "the subscription's endpointUrl")
	must(at(properties, "deadLetterWithResourceIdentity", "deadLetterDestination", "properties", "blobContainerName"), fmt.Sprint(f.vars["deadLetterContainerName"]), "blobContainerName")
	found = append(found, checkDeployment(fsys, f, bells)...)
	return found
}

// checkDeployment finds what deploy.sh gives to or takes from the templates that they do not have.
func checkDeployment(fsys fs.FS, f, bells bicepFile) []string {
	const name = "infra/azure/deploy.sh"
	script := read(fsys, name)
	var found []string
	for _, m := range regexp.MustCompile(`\$\(output (\w+)\)`).FindAllStringSubmatch(script, -1) {
		if f.declared["output "+m[1]] == "" {
			found = append(found, fmt.Sprintf("%s reads output %s, which %s does not have", name, m[1], mainBicep))
		}
	}
	for _, m := range regexp.MustCompile(`\b([a-z]+[A-Z]\w+|location|address)="?\$`).FindAllStringSubmatch(script, -1) {
		if f.declared[m[1]] != "param" && bells.declared[m[1]] != "param" {
			found = append(found, fmt.Sprintf("%s gives parameter %s, which no template has", name, m[1]))
		}
	}
	return found
}

func TestBicepIsConsistent(t *testing.T) {
	hold(t, checkBicep, map[string]mutation{
		"a bracket too few":          {mainBicep, "sku: {\n    name: 'Standard_LRS'\n  }", "sku: {\n    name: 'Standard_LRS'\n", "is not closed"},
		"a string that does not end": {mainBicep, "'Standard_LRS'", "'Standard_LRS", "does not end"},
		"a symbol not declared":      {mainBicep, "parent: tables\n", "parent: tabels\n", "tabels is not declared"},
		"an interpolated one":        {mainBicep, "'zp${suffix}'", "'zp${sufix}'", "sufix is not declared"},
		"a parameter not used":       {mainBicep, "perInstanceConcurrency: httpConcurrency", "perInstanceConcurrency: 16", "httpConcurrency is not used"},
		"a symbol declared twice":    {mainBicep, "resource poisonQueue ", "resource bellsQueue ", "declared twice"},
		"a property given twice":     {mainBicep, "    defaultToOAuthAuthentication: true\n", "    allowSharedKeyAccess: true\n", "stands twice"},
		"a circle":                   {mainBicep, "name: 'zp${suffix}'", "name: 'zp${app.name}'", "in a circle"},
		"keys to the account":        {mainBicep, "allowSharedKeyAccess: false", "allowSharedKeyAccess: true", "allowSharedKeyAccess is true"},
		"keys to the topic":          {mainBicep, "disableLocalAuth: true", "disableLocalAuth: false", "disableLocalAuth"},
		"a right on all tables":      {mainBicep, "scope: table\n", "scope: storage\n", "on more than one table"},
		"another table":              {mainBicep, "tableName = 'zeroplane'", "tableName = 'zeroplanes'", "tableName"},
		"another poison queue":       {mainBicep, "'zeroplane-bells-poison'", "'zeroplane-poison'", "poisonQueueName"},
		"a role that is too much":    {mainBicep, "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3", "b24988ac-6180-42a0-ab88-20f7382dd24c", "not among those"},
		"a role that is not named":   {mainBicep, "roles.tableDataContributor)", "roles.tableOwner)", "roles.tableOwner"},
		"another route":              {bellsBicep, "/events'", "/event'", "endpointUrl"},
		"another container":          {bellsBicep, "'dead-letters'", "'deadletters'", "blobContainerName"},
		"an output that is missing":  {mainBicep, "output appName", "output name", "output appName"},
		"a parameter renamed":        {mainBicep, "param budgetStart", "param budgetBegin", "parameter budgetStart"},
	})
}

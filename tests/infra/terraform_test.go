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

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// module is all .tf files together.
type module struct {
	blocks []*hclsyntax.Block
	locals map[string]hclsyntax.Expression
}

// parseTerraform parses the files.
func parseTerraform(fsys fs.FS) (module, error) {
	m := module{locals: map[string]hclsyntax.Expression{}}
	names, err := fs.Glob(fsys, terraform+"/*.tf")
	if err != nil || len(names) == 0 {
		return m, fmt.Errorf("no .tf files in %s: %w", terraform, err)
	}
	p := hclparse.NewParser()
	for _, name := range names {
		file, diagnostics := p.ParseHCL([]byte(read(fsys, name)), name)
		if diagnostics.HasErrors() {
			return m, diagnostics
		}
		m.blocks = append(m.blocks, file.Body.(*hclsyntax.Body).Blocks...)
	}
	for _, b := range m.blocks {
		if b.Type == "locals" {
			for name, a := range b.Body.Attributes {
				m.locals[name] = a.Expr
			}
		}
	}
	return m, nil
}

// block returns the first of that type and those labels, nil if there is none.
func (m module) block(kind string, labels ...string) *hclsyntax.Block {
	for _, b := range m.blocks {
		if b.Type == kind && slices.Equal(b.Labels, labels) {
			return b
		}
	}
	return nil
}

// visit calls f with each expression of an attribute in a block, also of inner blocks.
func visit(b *hclsyntax.Body, f func(hclsyntax.Expression)) {
	for _, name := range slices.Sorted(maps.Keys(b.Attributes)) {
		f(b.Attributes[name].Expr)
	}
	for _, inner := range b.Blocks {
		visit(inner.Body, f)
	}
}

// object returns the keys and values of an object in the text.
func object(e hclsyntax.Expression) map[string]hclsyntax.Expression {
	members := map[string]hclsyntax.Expression{}
	if o, ok := e.(*hclsyntax.ObjectConsExpr); ok {
		for _, item := range o.Items {
			key := hcl.ExprAsKeyword(item.KeyExpr)
			if key == "" {
				if v, d := item.KeyExpr.Value(nil); !d.HasErrors() {
					key = v.AsString()
				}
			}
			members[key] = item.ValueExpr
		}
	}
	return members
}

// literal returns the value of a string without references, empty for anything else.
func literal(e hclsyntax.Expression) string {
	if e == nil || len(e.Variables()) > 0 {
		return ""
	}
	v, d := e.Value(nil)
	if d.HasErrors() || v.Type().FriendlyName() != "string" {
		return ""
	}
	return v.AsString()
}

// schema is what a block may hold: for each argument a schema if it is a block, and a string if not. A name that
// begins with ! must be there.
type schema map[string]any

// checkBlock holds a resource's body against its schema.
func checkBlock(where string, body *hclsyntax.Body, s schema) []string {
	var found []string
	has := map[string]bool{}
	lookup := func(name string) (any, bool) {
		v, ok := s[name]
		if !ok {
			v, ok = s["!"+name]
		}
		return v, ok
	}
	for _, name := range slices.Sorted(maps.Keys(body.Attributes)) {
		has[name] = true
		if slices.Contains([]string{"count", "for_each", "depends_on", "provider"}, name) {
			continue
		}
		if v, ok := lookup(name); !ok {
			found = append(found, fmt.Sprintf("%s has no argument %s", where, name))
		} else if _, isBlock := v.(map[string]any); isBlock {
			found = append(found, fmt.Sprintf("%s: %s is a block", where, name))
		}
	}
	for _, b := range body.Blocks {
		has[b.Type] = true
		v, _ := lookup(b.Type)
		inner, ok := v.(map[string]any)
		if !ok {
			found = append(found, fmt.Sprintf("%s has no block %s", where, b.Type))
			continue
		}
		found = append(found, checkBlock(where+"."+b.Type, b.Body, inner)...)
	}
	for _, name := range slices.Sorted(maps.Keys(s)) {
		if bare, must := strings.CutPrefix(name, "!"); must && !has[bare] {
			found = append(found, fmt.Sprintf("%s lacks %s", where, bare))
		}
	}
	return found
}

// azapiArguments are those of azapi_resource that are used, from the provider's documentation.
var azapiArguments = schema{
	"!type": "", "!name": "", "!parent_id": "", "location": "", "body": "", "sensitive_body": "", "sensitive_body_version": "",
	"identity": map[string]any{"!type": "", "identity_ids": ""},
}

var randomArguments = schema{"!length": "", "upper": "", "special": ""}

// checkTerraform finds what is wrong within the module.
func checkTerraform(fsys fs.FS) []string {
	m, err := parseTerraform(fsys)
	if err != nil {
		return []string{err.Error()}
	}
	data, err := os.ReadFile("testdata/azurerm.json")
	if err != nil {
		return []string{err.Error()}
	}
	var provider map[string]schema
	if err := json.Unmarshal(data, &provider); err != nil {
		return []string{err.Error()}
	}
	provider["azapi_resource"], provider["random_string"] = azapiArguments, randomArguments
	found := checkReferences(m)
	for _, b := range m.blocks {
		if b.Type != "resource" {
			continue
		}
		s, ok := provider[b.Labels[0]]
		if !ok {
			found = append(found, fmt.Sprintf("resource %s is not known here: add it to testdata", b.Labels[0]))
			continue
		}
		found = append(found, checkBlock(strings.Join(b.Labels, "."), b.Body, s)...)
	}
	return append(found, checkAgreement(fsys, m)...)
}

// checkReferences finds references to what is not declared, and variables that nothing refers to.
func checkReferences(m module) []string {
	declared := map[string]bool{}
	for name := range m.locals {
		declared["local."+name] = true
	}
	for _, b := range m.blocks {
		switch b.Type {
		case "variable":
			declared["var."+b.Labels[0]] = true
		case "resource":
			declared[strings.Join(b.Labels, ".")] = true
		case "data":
			declared["data."+strings.Join(b.Labels, ".")] = true
		}
	}
	var found []string
	used := map[string]bool{}
	for _, b := range m.blocks {
		// What is required of providers is written like references, and is none.
		if b.Type == "terraform" {
			continue
		}
		visit(b.Body, func(e hclsyntax.Expression) {
			for _, traversal := range e.Variables() {
				name := reference(traversal)
				// A variable's own validation is no use of it.
				used[name] = used[name] || b.Type != "variable"
				if !declared[name] && !slices.Contains([]string{"each", "path", "string", "number"}, traversal.RootName()) {
					r := traversal.SourceRange()
					found = append(found, fmt.Sprintf("%s:%d: %s is not declared", r.Filename, r.Start.Line, name))
				}
			}
		})
	}
	for _, name := range slices.Sorted(maps.Keys(declared)) {
		if (strings.HasPrefix(name, "var.") || strings.HasPrefix(name, "local.")) && !used[name] {
			found = append(found, name+" is not used")
		}
	}
	return found
}

// reference returns what a traversal refers to: its first two names, or three for data.
func reference(t hcl.Traversal) string {
	parts := []string{t.RootName()}
	n := 2
	if t.RootName() == "data" {
		n = 3
	}
	for _, step := range t[1:] {
		if a, ok := step.(hcl.TraverseAttr); ok && len(parts) < n {
			parts = append(parts, a.Name)
		}
	}
	return strings.Join(parts, ".")
}

// shared are the names that both templates have, Terraform's first.
var shared = map[string]string{
	"table_name": "tableName", "bells_queue_name": "bellsQueueName", "poison_queue_name": "poisonQueueName",
	"seal_key_name": "sealKeyName", "deployment_container": "deploymentContainerName", "dead_letters": "deadLetterContainerName",
}

// checkAgreement finds where the module differs from the Bicep template.
func checkAgreement(fsys fs.FS, m module) []string {
	f, err := parseBicep(read(fsys, mainBicep))
	if err != nil {
		return []string{err.Error()}
	}
	var found []string
	differ := func(what string, want, got any) {
		if d := cmp.Diff(want, got); d != "" {
			found = append(found, fmt.Sprintf("%s differ (-bicep +terraform):\n%s", what, d))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(shared)) {
		differ("local."+name, strings.Trim(fmt.Sprint(f.vars[shared[name]]), "'"), literal(m.locals[name]))
	}
	differ("settings of the app", slices.Sorted(maps.Keys(bicepSettings(fsys))), slices.Sorted(maps.Keys(object(m.locals["settings"]))))
	rights, _ := bicepRights(f)
	differ("roles", rights, m.rights())
	if app := m.block("resource", "azapi_resource", "app"); app != nil {
		body := object(app.Body.Attributes["body"].Expr)
		differ("properties of the app", paths("", at(f.resource("app").body, "properties")), hclPaths("", body["properties"]))
		kind, _ := f.resource("app").body["kind"].(string)
		differ("kinds of the app", strings.Trim(kind, "'"), literal(body["kind"]))
	}
	account := m.block("resource", "azurerm_storage_account", "this")
	if key := account.Body.Attributes["shared_access_key_enabled"]; key == nil || !isFalse(key.Expr) {
		found = append(found, "shared_access_key_enabled is not false")
	}
	return found
}

func isFalse(e hclsyntax.Expression) bool {
	v, d := e.Value(nil)
	return !d.HasErrors() && v.Type().FriendlyName() == "bool" && v.False()
}

// rights returns the names of the roles that are given, sorted, one for each assignment.
func (m module) rights() []string {
	var rights []string
	call, ok := m.locals["rights"].(*hclsyntax.FunctionCallExpr)
	if !ok {
		return nil
	}
	for _, arg := range call.Args {
		for _, right := range object(arg) {
			rights = append(rights, literal(object(right)["role"]))
		}
		// One for each of the host's containers.
		if each, ok := arg.(*hclsyntax.ForExpr); ok {
			for range m.locals["host_containers"].(*hclsyntax.TupleConsExpr).Exprs {
				rights = append(rights, literal(object(each.ValExpr)["role"]))
			}
		}
	}
	for _, b := range m.blocks {
		if b.Type == "resource" && b.Labels[0] == "azurerm_role_assignment" && b.Labels[1] != "app" {
			rights = append(rights, literal(b.Body.Attributes["role_definition_name"].Expr))
		}
	}
	slices.Sort(rights)
	return rights
}

// paths returns the ways to all values in an object of Bicep, sorted.
func paths(to string, value any) []string {
	members, ok := value.(map[string]any)
	if !ok {
		return []string{to}
	}
	var all []string
	for key, inner := range members {
		all = append(all, paths(to+"/"+key, inner)...)
	}
	slices.Sort(all)
	return all
}

// hclPaths is paths for an object of Terraform.
func hclPaths(to string, value hclsyntax.Expression) []string {
	members := object(value)
	if len(members) == 0 {
		return []string{to}
	}
	var all []string
	for key, inner := range members {
		all = append(all, hclPaths(to+"/"+key, inner)...)
	}
	slices.Sort(all)
	return all
}

// checkDocumented finds settings that the document for Azure does not explain.
func checkDocumented(fsys fs.FS) []string {
	var found []string
	document := read(fsys, azureDocument)
	for _, name := range slices.Sorted(maps.Keys(bicepSettings(fsys))) {
		if !strings.Contains(document, "`"+name+"`") && !regexp.MustCompile("`"+strings.Split(name, "__")[0]+"__\\*`").MatchString(document) {
			found = append(found, fmt.Sprintf("%s does not name setting %s", azureDocument, name))
		}
	}
	return found
}

func TestTerraformIsConsistent(t *testing.T) {
	const main, alerts, variables = terraform + "/main.tf", terraform + "/alerts.tf", terraform + "/variables.tf"
	hold(t, checkTerraform, map[string]mutation{
		"a brace too few":             {main, `resource "azurerm_resource_group" "this" {`, `resource "azurerm_resource_group" "this"`, "Invalid block definition"},
		"a variable not declared":     {main, "var.location", "var.region", "var.region is not declared"},
		"a resource not declared":     {alerts, "azurerm_log_analytics_workspace.this", "azurerm_log_analytics_workspace.that", "not declared"},
		"a variable not used":         {main, "var.http_concurrency", "16", "var.http_concurrency is not used"},
		"an argument that is not one": {main, "min_tls_version", "minimum_tls_version", "has no argument minimum_tls_version"},
		"an argument that is missing": {alerts, "window_duration       = \"PT15M\"\n", "", "lacks window_duration"},
		"a block that is not one":     {main, "retry_policy {", "retry {", "has no block retry"},
		"an argument of a block":      {alerts, "contact_emails", "emails", "has no argument emails"},
		"a resource not known":        {main, `"azurerm_service_plan"`, `"azurerm_app_service_plan"`, "is not known here"},
		"another queue":               {main, `"zeroplane-bells"`, `"bells"`, "local.bells_queue_name differ"},
		"a setting too few":           {main, "    AZURE_STORAGE_ACCOUNT                     = azurerm_storage_account.this.name\n", "", "settings of the app differ"},
		"another role":                {main, `role = "Storage Table Data Contributor"`, `role = "Contributor"`, "roles differ"},
		"keys to the account":         {main, "shared_access_key_enabled       = false", "shared_access_key_enabled       = true", "shared_access_key_enabled"},
		"another property of the app": {main, "httpsOnly ", "httpOnly ", "properties of the app differ"},
		"a variable spelled wrongly":  {variables, `variable "alert_email"`, `variable "alert_mail"`, "var.alert_email is not declared"},
	})
}

func TestSettingsAreDocumented(t *testing.T) {
	hold(t, checkDocumented, map[string]mutation{
		"a new setting": {mainBicep, "name: 'ZEROPLANE_TABLE'", "name: 'ZEROPLANE_NEW'", "ZEROPLANE_NEW"},
	})
}

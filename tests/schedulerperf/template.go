package schedulerperf

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// source is a template of objects.
type source struct {
	// path is relative to the folder of the definition; empty for what object gives.
	path   string
	params map[string]any
	count  int
	// plain files are not templates.
	plain bool
}

// text is the object's YAML, of the index-th of count objects.
//
// Upstream: getSpecFromTextTemplateFile in operations.go.
func (s source) text(dir string, index int) ([]byte, error) {
	content, err := os.ReadFile(filepath.Join(dir, s.path)) // #nosec G304 -- upstream's
	if err != nil || s.plain {
		return content, err
	}
	parsed, err := template.New(s.path).Funcs(functions).Parse(string(content))
	if err != nil {
		return nil, err
	}
	env := map[string]any{}
	maps.Copy(env, s.params)
	env["Index"], env["Count"] = index, s.count
	var out bytes.Buffer
	if err := parsed.Execute(&out, env); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// decode makes the object into the value that a pointer is to.
func (s source) decode(dir string, index int, into any) error {
	text, err := s.text(dir, index)
	if err != nil {
		return err
	}
	if err := yaml.UnmarshalStrict(text, into); err != nil {
		return fmt.Errorf("%s: %w", s.path, err)
	}
	return nil
}

// decodeAny makes an object of any kind. Its whole numbers stay whole.
func (s source) decodeAny(dir string, index int) (*unstructured.Unstructured, error) {
	text, err := s.text(dir, index)
	if err != nil {
		return nil, err
	}
	raw, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.path, err)
	}
	object := &unstructured.Unstructured{}
	if err := object.UnmarshalJSON(raw); err != nil {
		return nil, fmt.Errorf("%s: %w", s.path, err)
	}
	if served, old := stable[object.GetAPIVersion()]; old {
		object.SetAPIVersion(served)
	}
	stampAny(object)
	return object, nil
}

// stable are the versions served by default of APIs that upstream's templates name in an older one, which its runner turns on:
// the objects are the same.
var stable = map[string]string{"resource.k8s.io/v1beta2": "resource.k8s.io/v1"}

// functions are those of upstream's templates: getTemplateFuncs in operations.go.
var functions = template.FuncMap{
	"AddFloat": sum,
	"AddInt":   func(numbers ...any) (int, error) { return whole(sum(numbers...)) },
	"DivideFloat": func(a, b any) (float64, error) {
		return arithmetic(a, b, func(x, y float64) float64 { return x / y })
	},
	"DivideInt": func(a, b any) (int, error) {
		return whole(arithmetic(a, b, func(x, y float64) float64 { return x / y }))
	},
	"Int":  func(a any) (int, error) { return whole(number(a)) },
	"JSON": toJSON,
	"Mod": func(a, b any) (int, error) {
		return whole(arithmetic(a, b, func(x, y float64) float64 { return float64(int(x) % int(y)) }))
	},
	"MultiplyFloat": product,
	"MultiplyInt":   func(numbers ...any) (int, error) { return whole(product(numbers...)) },
	"SubtractFloat": func(a, b any) (float64, error) {
		return arithmetic(a, b, func(x, y float64) float64 { return x - y })
	},
	"SubtractInt": func(a, b any) (int, error) {
		return whole(arithmetic(a, b, func(x, y float64) float64 { return x - y }))
	},
}

// number takes what YAML, JSON and text/template have for numbers.
func number(value any) (float64, error) { return strconv.ParseFloat(fmt.Sprint(value), 64) }

func whole(n float64, err error) (int, error) { return int(n), err }

func arithmetic(a, b any, op func(x, y float64) float64) (float64, error) {
	x, err := number(a)
	if err != nil {
		return 0, err
	}
	y, err := number(b)
	return op(x, y), err
}

func sum(numbers ...any) (float64, error) {
	return fold(0, numbers, func(x, y float64) float64 { return x + y })
}

func product(numbers ...any) (float64, error) {
	return fold(1, numbers, func(x, y float64) float64 { return x * y })
}

func fold(total float64, numbers []any, op func(x, y float64) float64) (float64, error) {
	for _, n := range numbers {
		x, err := number(n)
		if err != nil {
			return 0, err
		}
		total = op(total, x)
	}
	return total, nil
}

func toJSON(value any) (string, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(value)
	return strings.TrimSpace(out.String()), err
}

package definitions

import (
	"fmt"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// checkStructure says in a condition that a schema is not structural (sync), as only one can be that was stored
// before that was asked for.
func (d draft) checkStructure() {
	c, old := d.violations(), d.find(apiextensionsv1.NonStructuralSchema)
	switch {
	case c == nil && old != nil:
		kept := []condition{}
		for _, other := range d.Status.Conditions {
			if other.Type != apiextensionsv1.NonStructuralSchema {
				kept = append(kept, other)
			}
		}
		d.Status.Conditions = kept
	case c != nil && !same(c, old):
		d.set(*c)
	}
}

// violations is the condition of a definition whose schemas are not structural, nil for another (calculateCondition).
func (d draft) violations() *condition {
	c := &condition{Type: apiextensionsv1.NonStructuralSchema, Status: apiextensionsv1.ConditionUnknown}
	var all field.ErrorList
	if d.Spec.PreserveUnknownFields {
		all = append(all, field.Invalid(field.NewPath("spec", "preserveUnknownFields"), true, "must be false"))
	}
	for i, v := range d.Spec.Versions {
		if v.Schema == nil || v.Schema.OpenAPIV3Schema == nil {
			continue
		}
		internal := &apiextensions.CustomResourceValidation{}
		if apiextensionsv1.Convert_v1_CustomResourceValidation_To_apiextensions_CustomResourceValidation(v.Schema, internal, nil) != nil {
			continue
		}
		s, err := schema.NewStructural(internal.OpenAPIV3Schema)
		if err != nil {
			c.Reason = "StructuralError"
			c.Message = fmt.Sprintf("failed to check validation schema for version %s: %v", v.Name, err)
			return c
		}
		path := field.NewPath("spec", "versions").Index(i).Child("schema", "openAPIV3Schema")
		all = append(all, schema.ValidateStructural(path, s)...)
	}
	if len(all) == 0 {
		return nil
	}
	c.Status, c.Reason, c.Message = apiextensionsv1.ConditionTrue, "Violations", all.ToAggregate().Error()
	return c
}

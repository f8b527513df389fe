package definitions

import (
	"fmt"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// name accepts the names that the definition asks for and no other of its group has (sync and calculateNamesAndConditions). Where
// one is taken, those that it had stay.
func (d draft) name(others []*definition) {
	if equality.Semantic.DeepEqual(d.Spec.Names, d.Status.AcceptedNames) {
		return
	}
	c := claim{asked: d.Spec.Names, accepted: d.Status.AcceptedNames}
	for _, o := range append([]*definition{d.definition}, others...) {
		has := o.Status.AcceptedNames
		c.resources = append(append(c.resources, has.Plural, has.Singular), has.ShortNames...)
		c.kinds = append(c.kinds, has.Kind, has.ListKind)
	}
	accepted := c.settle()
	named := condition{
		Type: apiextensionsv1.NamesAccepted, Status: apiextensionsv1.ConditionTrue, Reason: "NoConflicts", Message: "no conflicts found",
	}
	if c.reason != "" {
		named.Status, named.Reason, named.Message = apiextensionsv1.ConditionFalse, c.reason, c.message
	}
	if equality.Semantic.DeepEqual(d.Status.AcceptedNames, accepted) && same(&named, d.find(apiextensionsv1.NamesAccepted)) {
		return
	}
	established := condition{
		Type: apiextensionsv1.Established, Status: apiextensionsv1.ConditionFalse, Reason: "NotAccepted", Message: "not all names are accepted",
	}
	if old := d.find(apiextensionsv1.Established); old != nil {
		established = *old
	}
	if established.Status != apiextensionsv1.ConditionTrue && named.Status == apiextensionsv1.ConditionTrue {
		established = condition{
			Type: apiextensionsv1.Established, Status: apiextensionsv1.ConditionFalse, Reason: "Installing", Message: "the initial names have been accepted",
		}
	}
	d.Status.AcceptedNames = accepted
	d.set(named)
	d.set(established)
}

// claim is a definition's claim to names.
type claim struct {
	asked, accepted apiextensionsv1.CustomResourceDefinitionNames
	// resources and kinds are the names that are taken.
	resources, kinds []string
	// reason and message say why a name is refused: the last one that is.
	reason, message string
}

// settle returns the names that the definition has from now on.
func (c *claim) settle() apiextensionsv1.CustomResourceDefinitionNames {
	out := c.accepted
	c.take(&out.Plural, c.asked.Plural, c.resources, "PluralConflict")
	c.take(&out.Singular, c.asked.Singular, c.resources, "SingularConflict")
	c.takeShort(&out.ShortNames)
	c.take(&out.Kind, c.asked.Kind, c.kinds, "KindConflict")
	c.take(&out.ListKind, c.asked.ListKind, c.kinds, "ListKindConflict")
	out.Categories = c.asked.Categories
	return out
}

func (c *claim) take(name *string, asked string, taken []string, reason string) {
	if asked != *name && slices.Contains(taken, asked) {
		c.reason, c.message = reason, inUse(asked)
		return
	}
	*name = asked
}

// takeShort takes all short names or none.
func (c *claim) takeShort(names *[]string) {
	if slices.Equal(c.asked.ShortNames, *names) {
		return
	}
	var refused []string
	for _, name := range c.asked.ShortNames {
		if !slices.Contains(*names, name) && slices.Contains(c.resources, name) && !slices.Contains(refused, inUse(name)) {
			refused = append(refused, inUse(name))
		}
	}
	switch len(refused) {
	case 0:
		*names = c.asked.ShortNames
	case 1:
		c.reason, c.message = "ShortNamesConflict", refused[0]
	default: // as an aggregate of errors reads
		c.reason, c.message = "ShortNamesConflict", "["+strings.Join(refused, ", ")+"]"
	}
}

func inUse(name string) string { return fmt.Sprintf("%q is already in use", name) }

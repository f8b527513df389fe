package definitions

import (
	"cmp"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/zeroplane/zeroplane/core/plan"
)

const (
	// managedLabel says whose an APIService is (AutoRegisterManagedLabel of
	// k8s.io/kube-aggregator/pkg/controllers/autoregister), and always that it is kept as it is to be.
	managedLabel = "kube-aggregator.kubernetes.io/automanaged"
	always       = "true"
	// Priorities of the groups of custom kinds and of their versions.
	groupPriority, versionPriority = 1000, 100
)

// Group is what the APIServices of a group are decided on.
type Group struct {
	Name        string
	Definitions []*definition
	// Services are the APIServices whose names end with the group's.
	Services []*apiregistrationv1.APIService
}

// Register decides which APIServices stand for the versions that definitions of a group serve
// (pkg/controlplane/controller/crdregistration/crdregistration_controller.go of k8s.io/kubernetes, handleVersionUpdate, and
// checkAPIService of autoregister_controller.go). One that somebody else has made is left alone.
func Register(g Group) plan.Plan {
	p := plan.Plan{Reads: []plan.Read{{Resource: plan.Definitions}, {Resource: plan.APIServices}}}
	wanted := wantedOf(g)
	for _, s := range g.Services {
		want := wanted[s.Name]
		delete(wanted, s.Name)
		switch {
		case s.Labels[managedLabel] != always:
		case want == nil:
			p.Writes = append(p.Writes, plan.Write{
				Verb: plan.Delete, Resource: plan.APIServices, Name: s.Name, UID: s.UID, Reason: "no definition serves the version any more",
			})
		case !equality.Semantic.DeepEqual(s.Spec, want.Spec):
			changed := s.DeepCopy()
			changed.Spec = want.Spec
			p.Writes = append(p.Writes, plan.Write{
				Verb: plan.Update, Resource: plan.APIServices, Name: s.Name, Object: changed, Reason: "it is that of definitions",
			})
		}
	}
	var missing []*apiregistrationv1.APIService
	for _, want := range wanted {
		missing = append(missing, want)
	}
	slices.SortFunc(missing, func(a, b *apiregistrationv1.APIService) int { return cmp.Compare(a.Name, b.Name) })
	for _, want := range missing {
		p.Writes = append(p.Writes, plan.Write{
			Verb: plan.Create, Resource: plan.APIServices, Name: want.Name, Object: want, Reason: "a definition serves the version",
		})
	}
	return p
}

func wantedOf(g Group) map[string]*apiregistrationv1.APIService {
	out := map[string]*apiregistrationv1.APIService{}
	for _, d := range g.Definitions {
		for _, v := range d.Spec.Versions {
			if !v.Served {
				continue
			}
			name := v.Name + "." + g.Name
			out[name] = &apiregistrationv1.APIService{
				ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{managedLabel: always}},
				Spec: apiregistrationv1.APIServiceSpec{
					Group: g.Name, Version: v.Name, GroupPriorityMinimum: groupPriority, VersionPriority: versionPriority,
				},
			}
		}
	}
	return out
}
